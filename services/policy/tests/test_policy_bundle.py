import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from gen2act_contracts.errors import BundleInvalid, ProviderMissing
from gen2act_contracts.spec import ActionSpec
from gen2act_policy.bundle import graph_names, load_bundle, write_manifest
from gen2act_policy.runtime import OnnxRuntime
from gen2act_policy.testing import small_spec, write_random_bundle


def edit(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = directory / "manifest.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


def test_a_good_bundle_loads_with_its_spec_and_hash(tmp_path: Path, spec: ActionSpec) -> None:
    model_hash = write_random_bundle(tmp_path, spec, name="tiny")
    bundle = load_bundle(tmp_path)
    assert bundle.name == "tiny"
    assert bundle.model_hash == model_hash
    assert bundle.spec.dimensions == spec.dimensions
    assert bundle.conditioning == "video"
    assert set(bundle.graphs) == set(graph_names("video"))


def test_model_hash_covers_graphs_and_manifest(tmp_path: Path, spec: ActionSpec) -> None:
    first = write_random_bundle(tmp_path / "a", spec, seed=0)
    assert write_random_bundle(tmp_path / "b", spec, seed=0) == first
    assert write_random_bundle(tmp_path / "c", spec, seed=1) != first
    assert write_manifest(tmp_path / "a", "renamed", spec) != first


def test_a_manifest_that_does_not_name_its_conditioning_follows_videos(
    tmp_path: Path, spec: ActionSpec
) -> None:
    model_hash = write_random_bundle(tmp_path, spec)
    assert "conditioning" not in json.loads((tmp_path / "manifest.json").read_text())
    edit(tmp_path, lambda raw: raw.update(conditioning="human_video"))
    other = load_bundle(tmp_path)
    assert other.conditioning == "human_video" and other.model_hash != model_hash


def test_model_hash_does_not_depend_on_how_the_manifest_is_spaced(bundle_dir: Path) -> None:
    before = load_bundle(bundle_dir).model_hash
    edit(bundle_dir, lambda raw: None)
    assert load_bundle(bundle_dir).model_hash == before


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda raw: raw["graphs"].pop("step"), "step"),
        (lambda raw: raw["graphs"]["step"].update(sha256="0" * 64), "sha256"),
        (lambda raw: raw["graphs"]["step"].update(file="gone.onnx"), "gone.onnx"),
        (lambda raw: raw["graphs"]["step"].update(file="../step.onnx"), "graphs.step.file"),
        (lambda raw: raw.update(contract_version=2), "contract version 2"),
        (lambda raw: raw.update(format=7), "format"),
        (lambda raw: raw.update(surprise=1), "surprise"),
        (lambda raw: raw.update(conditioning="smell"), "conditioning.*'human_video'"),
        (lambda raw: raw.update(conditioning="language"), "no graph 'instruction_encoder'"),
        (lambda raw: raw.pop("action_spec"), "action_spec"),
        (lambda raw: raw["action_spec"].pop("frame"), "action_spec"),
        (lambda raw: raw["action_spec"]["dimensions"].clear(), "action_spec"),
    ],
)
def test_a_wrong_manifest_is_refused_and_named(
    bundle_dir: Path, change: Callable[[dict[str, Any]], object], names: str
) -> None:
    edit(bundle_dir, change)
    with pytest.raises(BundleInvalid, match=names):
        load_bundle(bundle_dir)


def test_a_missing_folder_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(BundleInvalid, match="GEN2ACT_BUNDLE"):
        load_bundle(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"not json", b"[]", b"\xff\xfe"])
def test_a_manifest_that_is_not_an_object_is_refused(bundle_dir: Path, content: bytes) -> None:
    (bundle_dir / "manifest.json").write_bytes(content)
    with pytest.raises(BundleInvalid, match=r"manifest\.json"):
        load_bundle(bundle_dir)


def test_a_truncated_graph_is_refused(bundle_dir: Path) -> None:
    path = bundle_dir / "frame_encoder.onnx"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BundleInvalid, match="frame_encoder"):
        load_bundle(bundle_dir)


def reseal(directory: Path, graph: str) -> None:
    digest = hashlib.sha256((directory / f"{graph}.onnx").read_bytes()).hexdigest()
    edit(directory, lambda raw: raw["graphs"][graph].update(sha256=digest))


def test_a_graph_that_is_not_onnx_is_refused(bundle_dir: Path) -> None:
    (bundle_dir / "step.onnx").write_bytes(b"not onnx")
    reseal(bundle_dir, "step")
    with pytest.raises(BundleInvalid, match="step"):
        OnnxRuntime(load_bundle(bundle_dir))


def test_a_graph_with_other_inputs_is_refused(bundle_dir: Path) -> None:
    model = onnx.load(str(bundle_dir / "frame_encoder.onnx"))
    model.graph.input[0].name = model.graph.node[0].input[0] = "picture"
    onnx.save(model, str(bundle_dir / "frame_encoder.onnx"))
    reseal(bundle_dir, "frame_encoder")
    with pytest.raises(BundleInvalid, match="picture"):
        OnnxRuntime(load_bundle(bundle_dir))


def test_graphs_that_do_not_give_the_specs_actions_are_refused(tmp_path: Path) -> None:
    write_random_bundle(tmp_path, small_spec(chunk_length=3))
    write_manifest(tmp_path, "other", small_spec(chunk_length=4))
    with pytest.raises(BundleInvalid, match=r"action_logits.*\[1, 3, 3, 256\].*\[1, 4, 3, 256\]"):
        OnnxRuntime(load_bundle(tmp_path))


def test_a_missing_provider_is_named_with_the_remedy(bundle_dir: Path) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has the CUDA provider")
    with pytest.raises(ProviderMissing, match=r"CUDAExecutionProvider.*onnxruntime-gpu"):
        OnnxRuntime(load_bundle(bundle_dir), "cuda")


def test_an_unknown_provider_is_refused(bundle_dir: Path) -> None:
    with pytest.raises(ProviderMissing, match="cpu, cuda"):
        OnnxRuntime(load_bundle(bundle_dir), "tpu")


def test_the_runtime_serves_any_batch(bundle_dir: Path) -> None:
    runtime = OnnxRuntime(load_bundle(bundle_dir), threads=1)
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    together = runtime.encode(images)
    alone = np.concatenate([runtime.encode(image[None]) for image in images])
    np.testing.assert_allclose(together, alone, atol=1e-5)
