"""How a dataset is to be read: which camera, which actions, what closes the gripper, bounds.

Kept beside the data in `gen2act.json`, so that it is said once: written by the recorder for its own
datasets and by `gen2act-data describe` for other people's.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen2act_contracts.spec import UNITS, ActionDimension

from .errors import DatasetError
from .layout import Info, write_json

FILE = "gen2act.json"
ACTION_KINDS = ("delta", "absolute")
TICK_HZ = 3  # control periods per second: whatever its frame rate, a dataset is read at this one
# Labels of the robot's frames that only a simulator knows: Episode field -> feature. Features are
# flat, because the editing tools of lerobot fail on nested ones.
LABELS = {"landmarks_m": "label.landmarks_m", "landmarks_uv": "label.landmarks_uv"}


@dataclass(frozen=True)
class Description:
    """Everything about a dataset that its files do not say."""

    camera: str
    action: tuple[str, ...]  # of the feature `action`: end-effector dimensions, in order
    gripper: str  # of the feature `action`, with when it means closed, e.g. "gripper>0.5"
    called: tuple[str, ...] = ()  # by the policy, the same dimensions; the dataset's names if empty
    kind: str = "delta"  # per frame; "absolute": commanded poses, differences are taken
    units: tuple[str, ...] = ()  # per action dimension; all metres if empty
    bounds: tuple[tuple[float, float], ...] = ()  # per control period; empty: not known yet
    frame: str = "world"  # of reference of the actions
    position: tuple[str, ...] = ()  # of `observation.state`: end effector x, y, z [m]
    opening: str = ""  # of `observation.state`: gripper opening
    opening_range: tuple[float, ...] = ()  # its values when shut and when open
    terminate: str = ""  # feature that is 1 where nothing is left to do; else: the last ticks
    exclude: tuple[int, ...] = ()  # episodes to leave out

    def dimensions(self) -> tuple[ActionDimension, ...]:
        """What the policy's action spec will say. Raises DatasetError: bounds are not known."""
        if not self.bounds:
            raise DatasetError(f"{FILE} has no bounds; run `gen2act-data describe` again")
        units = self.units or ("m",) * len(self.action)
        parts = zip(self.called or self.action, units, self.bounds, strict=True)
        return tuple(ActionDimension(name, unit, *bounds) for name, unit, bounds in parts)

    def check(self, info: Info) -> None:
        """Raises DatasetError: names that the dataset does not have, or nonsense."""
        known(self.camera, info.cameras, "camera")
        if self.kind not in ACTION_KINDS:
            raise DatasetError(f"action kind {self.kind!r}, expected one of {ACTION_KINDS}")
        if not self.action:
            raise DatasetError("no action dimension is named")
        units = self.units or ("m",) * len(self.action)
        if len(units) != len(self.action) or set(units) - set(UNITS):
            raise DatasetError(
                f"units {list(units)} for actions {list(self.action)}, expected one of "
                f"{list(UNITS)} each"
            )
        if self.called and len(self.called) != len(self.action):
            raise DatasetError(f"{len(self.called)} new names for {len(self.action)} actions")
        if self.bounds and len(self.bounds) != len(self.action):
            raise DatasetError(f"{len(self.bounds)} bounds for {len(self.action)} actions")
        self._check_names(info)

    def _check_names(self, info: Info) -> None:
        if "action" not in info.features:
            raise DatasetError(f"the dataset has no feature 'action', only {list(info.features)}")
        names = info.names("action")
        for name in (*self.action, parse_gripper(self.gripper)[0]):
            known(name, names, "action")
        wanted = [*self.position, *([self.opening] if self.opening else [])]
        if wanted:
            known("observation.state", info.features, "feature")
            for name in wanted:
                known(name, info.names("observation.state"), "state")
        if self.position and len(self.position) != 3:
            raise DatasetError(f"position {list(self.position)}, expected three names: x, y, z")
        if bool(self.position) != bool(self.opening):
            raise DatasetError("name the position and the gripper opening together, or neither")
        if self.opening_range and len(set(self.opening_range)) != 2:
            raise DatasetError(f"opening range {self.opening_range}, expected shut and open")
        if self.terminate:
            known(self.terminate, info.features, "feature")


def known(name: str, names: Iterable[str], what: str) -> None:
    """Raises DatasetError where `name` is none of `names`; says which there are."""
    names = list(names)
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise DatasetError(f"unknown {what} {name!r}, the dataset has {names}{hint}")


def parse_gripper(text: str) -> tuple[str, str, float]:
    """ "grip<0.5" -> ("grip", "<", 0.5). Raises DatasetError: not of that form."""
    match = re.fullmatch(r"\s*(.+?)\s*([<>])\s*(-?\d+(?:\.\d+)?)\s*", text)
    if match is None:
        raise DatasetError(f"gripper {text!r}, expected when it is closed, e.g. 'gripper>0.5'")
    return match[1], match[2], float(match[3])


def is_closed(values: NDArray[Any], text: str) -> NDArray[np.float32]:
    """1 where the gripper column [T] means closed."""
    _, sign, threshold = parse_gripper(text)
    closed = values > threshold if sign == ">" else values < threshold
    return closed.astype(np.float32)


def read_description(root: Path) -> Description:
    """From `gen2act.json`. Raises DatasetError: missing, or not understood."""
    path = root / FILE
    try:
        raw = json.loads(path.read_text())
    except FileNotFoundError:
        raise DatasetError(
            f"{path} is missing: say once how this dataset is to be read with "
            f"`gen2act-data describe --dataset {root} --action ... --gripper ...`"
        ) from None
    except json.JSONDecodeError as error:
        raise DatasetError(f"{path} is no JSON: {error}") from None
    unknown = sorted(set(raw) - {field.name for field in fields(Description)})
    if unknown:
        raise DatasetError(f"{path} has unknown entries {unknown}")
    try:
        return Description(**{key: _frozen(value) for key, value in raw.items()})
    except TypeError as error:
        raise DatasetError(f"{path} is incomplete: {error}") from None


def write_description(root: Path, description: Description) -> None:
    write_json(root / FILE, asdict(description))


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
