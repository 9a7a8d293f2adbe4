"""A model bundle on disk: `manifest.json`, three ONNX graphs and a model card.

The manifest names each graph's file and its sha256. The model hash is the sha256 of the canonical
manifest, so it covers the graphs too. Graph interfaces (dynamic batch B; F is any shape, float32):

- `frame_encoder`:  image uint8[B, S, S, 3]           -> features float32[B, *F]
- `goal_resampler`: features float32[B, 16, *F]       -> goal float32[B, *G]
- `instruction_encoder`: words int64[B, 32] (see `words`) -> goal float32[B, *G]; in place of the
                    resampler where the policy is conditioned on language
- `step`:           history float32[B, H, *F] (oldest first), goal float32[B, *G],
                    proprioception float32[B, H, 4] where the spec uses it
                    -> action_logits float32[B, h, D, bins], gripper_logits float32[B, h],
                       terminate_logits float32[B]
"""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gen2act_contracts import CONTRACT_VERSION
from gen2act_contracts.errors import BundleInvalid, InvalidInput
from gen2act_contracts.spec import ActionSpec, canonical_json

MANIFEST = "manifest.json"
Conditioning = Literal["video", "goal_image", "human_video", "language"]
"""What the goal tokens are made of: a human video of this scene, its last frame alone, a human
video of another instance of the task, or the instruction's words (the last three: baselines)."""
PROPRIOCEPTION_DIMS = 4  # end-effector position x, y, z [m] and gripper opening [0, 1]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GraphEntry(_Strict):
    """One graph file beside the manifest."""

    file: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")  # a plain name: no way out
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(_Strict):
    """`manifest.json`, format 1."""

    format: Literal[1]
    contract_version: int
    name: str = Field(min_length=1, max_length=200)
    action_spec: dict[str, Any]  # ActionSpec JSON without its model hash
    conditioning: Conditioning = "video"
    goal_frames: int = Field(ge=2, le=64)  # of a video; not used with language
    graphs: dict[str, GraphEntry]
    training: dict[str, Any] = {}  # provenance, free form


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose manifest and file hashes were checked."""

    name: str
    spec: ActionSpec  # with the model hash
    conditioning: Conditioning
    goal_frames: int
    graphs: dict[str, Path]

    @property
    def model_hash(self) -> str:
        return self.spec.model_hash


def load_bundle(directory: Path) -> Bundle:
    """Reads and checks a bundle. Raises `BundleInvalid` that names the file and the reason."""
    path = directory / MANIFEST
    try:
        raw = json.loads(path.read_bytes())
    except OSError as error:
        raise BundleInvalid(
            f"no model bundle at {directory}: {path.name} cannot be read "
            f"({error.strerror}); set GEN2ACT_BUNDLE to a folder with a {path.name}",
            bundle=str(directory),
        ) from error
    except ValueError as error:
        raise BundleInvalid(f"{path} is not JSON: {error}", bundle=str(directory)) from error
    manifest = _parse(raw, path)
    if manifest.contract_version != CONTRACT_VERSION:
        raise BundleInvalid(
            f"{path} was made for contract version {manifest.contract_version}, this service "
            f"speaks {CONTRACT_VERSION}; export the model again",
            bundle=str(directory),
        )
    names = graph_names(manifest.conditioning)
    graphs = {name: _checked_graph(directory, name, manifest) for name in names}
    return Bundle(
        name=manifest.name,
        spec=replace(_spec(manifest, path), model_hash=hash_manifest(raw)),
        conditioning=manifest.conditioning,
        goal_frames=manifest.goal_frames,
        graphs=graphs,
    )


def graph_names(conditioning: Conditioning) -> tuple[str, str, str]:
    """The graphs of a bundle: frames to features, the goal's tokens, one step."""
    goal = "instruction_encoder" if conditioning == "language" else "goal_resampler"
    return "frame_encoder", goal, "step"


def write_manifest(
    directory: Path,
    name: str,
    spec: ActionSpec,
    *,
    conditioning: Conditioning = "video",
    goal_frames: int = 16,
    training: dict[str, Any] | None = None,
) -> str:
    """Seals the graphs `<graph>.onnx` in `directory` with a manifest; returns the model hash."""
    action_spec = spec.to_json()
    action_spec.pop("model_hash", None)
    raw: dict[str, Any] = {
        "format": 1,
        "contract_version": CONTRACT_VERSION,
        "name": name,
        "action_spec": action_spec,
        "goal_frames": goal_frames,
        "graphs": {
            graph: {"file": f"{graph}.onnx", "sha256": _sha256(directory / f"{graph}.onnx")}
            for graph in graph_names(conditioning)
        },
        "training": training or {},
    }
    if conditioning != "video":
        raw["conditioning"] = conditioning
    (directory / MANIFEST).write_text(json.dumps(raw, indent=2, sort_keys=True) + "\n")
    return hash_manifest(raw)


def hash_manifest(raw: dict[str, Any]) -> str:
    """sha256 (hex) of the canonical JSON: sorted keys, no spaces."""
    return hashlib.sha256(canonical_json(raw)).hexdigest()


def _parse(raw: Any, path: Path) -> Manifest:
    try:
        return Manifest.model_validate(raw)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'manifest'}: {item['msg']}"
            for item in error.errors()
        )
        raise BundleInvalid(f"{path}: {problems}", bundle=str(path.parent)) from error


def _spec(manifest: Manifest, path: Path) -> ActionSpec:
    try:
        return ActionSpec.from_json(manifest.action_spec)
    except InvalidInput as error:
        raise BundleInvalid(f"{path}: action_spec: {error}", bundle=str(path.parent)) from error


def _checked_graph(directory: Path, name: str, manifest: Manifest) -> Path:
    entry = manifest.graphs.get(name)
    if entry is None:
        raise BundleInvalid(
            f"{directory / MANIFEST} has no graph {name!r}; it needs "
            f"{', '.join(graph_names(manifest.conditioning))}",
            bundle=str(directory),
            graph=name,
        )
    path = directory / entry.file
    try:
        actual = _sha256(path)
    except OSError as error:
        raise BundleInvalid(
            f"graph {name}: {path} cannot be read ({error.strerror})",
            bundle=str(directory),
            graph=name,
        ) from error
    if actual != entry.sha256:
        raise BundleInvalid(
            f"graph {name}: {path} has sha256 {actual}, the manifest says {entry.sha256}; "
            "the file is damaged or from another export",
            bundle=str(directory),
            graph=name,
        )
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
