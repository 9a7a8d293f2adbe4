"""What an action means (`ActionSpec`), actions themselves (`ActionChunk`), and whether a robot
can carry them out (`check_compatible`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gen2act_contracts.errors import InvalidInput, NonFiniteInput, SpecMismatch
from gen2act_contracts.gen.gen2act.v1 import common_pb2

UNITS = ("m", "rad")
MAX_DIMENSIONS = 6
# Two control periods that differ by less are the same: 1/3 s is not exact in binary or decimal.
_PERIOD_TOLERANCE_S = 1e-6


@dataclass(frozen=True)
class ActionDimension:
    """One end-effector dimension: a displacement per control period in [low, high] `unit`."""

    name: str
    unit: str
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.name:
            raise InvalidInput("action dimension without a name")
        if self.unit not in UNITS:
            raise InvalidInput(
                f"action dimension {self.name!r}: unit {self.unit!r}, expected one of {UNITS}"
            )
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise NonFiniteInput(
                f"action dimension {self.name!r}: bounds [{self.low}, {self.high}] are not finite"
            )
        if not self.low < self.high:
            raise InvalidInput(
                f"action dimension {self.name!r}: low {self.low} is not below high {self.high}"
            )

    def to_proto(self) -> common_pb2.ActionDimension:
        return common_pb2.ActionDimension(
            name=self.name, unit=self.unit, low=self.low, high=self.high
        )

    @classmethod
    def from_proto(cls, message: common_pb2.ActionDimension) -> ActionDimension:
        return cls(message.name, message.unit, message.low, message.high)


@dataclass(frozen=True)
class ActionSpec:
    """The meaning of a policy's actions; from the model bundle, checked by the robot.

    Args:
        dimensions: 1 to 6 end-effector dimensions.
        frame: frame of reference of the displacements, e.g. "world".
        control_period_s: [s] between two actions.
        chunk_length: h, actions per reply.
        history_length: robot frames the policy sees.
        image_size: [px] side of the square image the policy was trained on.
        bins: uniform bins over [low, high] of each dimension.
        uses_proprioception: an observation without it is refused.
        model_hash: sha256 (hex) of the bundle; "" in the manifest, which cannot contain its hash.

    Raises:
        InvalidInput: a field is out of its range.
    """

    dimensions: tuple[ActionDimension, ...]
    frame: str
    control_period_s: float
    chunk_length: int
    history_length: int = 8
    image_size: int = 224
    bins: int = 256
    uses_proprioception: bool = False
    model_hash: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "dimensions", tuple(self.dimensions))
        object.__setattr__(self, "control_period_s", float(self.control_period_s))
        if not 1 <= len(self.dimensions) <= MAX_DIMENSIONS:
            raise InvalidInput(
                f"action spec has {len(self.dimensions)} dimensions, expected 1 to {MAX_DIMENSIONS}"
            )
        names = [d.name for d in self.dimensions]
        if len(set(names)) != len(names):
            raise InvalidInput(f"action spec names a dimension twice: {names}")
        if not self.frame:
            raise InvalidInput("action spec without a frame of reference")
        if not (math.isfinite(self.control_period_s) and 0 < self.control_period_s <= 60):
            raise InvalidInput(f"control period {self.control_period_s} s, expected (0, 60]")
        for field, low, high in (
            ("chunk_length", 1, 64),
            ("history_length", 1, 64),
            ("image_size", 16, 2048),
            ("bins", 2, 65536),
        ):
            value = getattr(self, field)
            if not low <= value <= high:
                raise InvalidInput(f"action spec: {field} {value}, expected {low} to {high}")

    @cached_property
    def hash(self) -> str:
        """sha256 (hex) over the canonical JSON, model hash included."""
        return hashlib.sha256(canonical_json(self.to_json())).hexdigest()

    @cached_property
    def low(self) -> NDArray[np.float64]:
        """Lower bounds, float64[D]; read-only."""
        return _read_only([d.low for d in self.dimensions])

    @cached_property
    def high(self) -> NDArray[np.float64]:
        """Upper bounds, float64[D]; read-only."""
        return _read_only([d.high for d in self.dimensions])

    @cached_property
    def bin_centres(self) -> NDArray[np.float32]:
        """What every bin stands for, in physical units: float32[D, bins]; read-only."""
        bins = np.repeat(np.arange(self.bins)[:, None], len(self.dimensions), axis=1)
        centres = np.ascontiguousarray(self.from_bins(bins).T, dtype=np.float32)
        centres.setflags(write=False)
        return centres

    def with_model_hash(self, model_hash: str) -> ActionSpec:
        return replace(self, model_hash=model_hash)

    def to_bins(self, values: ArrayLike) -> NDArray[np.int64]:
        """Bin of each value; values outside the bounds count as the bound.

        Args:
            values: float[..., D] in physical units.

        Returns:
            int64[..., D] in [0, bins).

        Raises:
            InvalidInput: the last axis is not D.
            NonFiniteInput: a value is NaN or infinite.
        """
        array = np.asarray(values, dtype=np.float64)
        self._check_last_axis(array.shape)
        if not np.isfinite(array).all():
            raise NonFiniteInput("action values to bin are not all finite")
        unit = (np.clip(array, self.low, self.high) - self.low) / (self.high - self.low)
        # The upper bound itself belongs to the last bin.
        return np.minimum((unit * self.bins).astype(np.int64), self.bins - 1)

    def from_bins(self, bins: ArrayLike) -> NDArray[np.float64]:
        """Centre of each bin in physical units.

        Args:
            bins: int[..., D] in [0, self.bins).

        Returns:
            float64[..., D].

        Raises:
            InvalidInput: not integers, out of range, or the last axis is not D.
        """
        array = np.asarray(bins)
        self._check_last_axis(array.shape)
        if not np.issubdtype(array.dtype, np.integer):
            raise InvalidInput(f"bins have dtype {array.dtype}, expected integers")
        if array.size and (array.min() < 0 or array.max() >= self.bins):
            raise InvalidInput(
                f"bins in [{array.min()}, {array.max()}], expected 0 to {self.bins - 1}"
            )
        unit = (array.astype(np.float64) + 0.5) / self.bins
        centres: NDArray[np.float64] = self.low + unit * (self.high - self.low)
        return centres

    def _check_last_axis(self, shape: tuple[int, ...]) -> None:
        if not shape or shape[-1] != len(self.dimensions):
            raise InvalidInput(
                f"shape {shape}: last axis must be the {len(self.dimensions)} action dimensions"
            )

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return {
            "dimensions": [
                {"name": d.name, "unit": d.unit, "low": d.low, "high": d.high}
                for d in self.dimensions
            ],
            "frame": self.frame,
            "control_period_s": self.control_period_s,
            "chunk_length": self.chunk_length,
            "history_length": self.history_length,
            "image_size": self.image_size,
            "bins": self.bins,
            "uses_proprioception": self.uses_proprioception,
            "model_hash": self.model_hash,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ActionSpec:
        """From parsed JSON. Absent optional fields get their defaults.

        Raises:
            InvalidInput: a field is missing, unknown or of the wrong type.
        """
        fields = dict(value)
        unknown = sorted(fields.keys() - cls.__dataclass_fields__.keys())
        if unknown:
            raise InvalidInput(f"action spec: unknown fields {unknown}")
        try:
            dimensions = tuple(
                ActionDimension(d["name"], d["unit"], float(d["low"]), float(d["high"]))
                for d in fields.pop("dimensions")
            )
            return cls(dimensions=dimensions, **fields)
        except KeyError as error:
            raise InvalidInput(f"action spec: missing field {error}") from None
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"action spec: {error}") from None

    def to_proto(self) -> common_pb2.ActionSpec:
        return common_pb2.ActionSpec(
            dimensions=[d.to_proto() for d in self.dimensions],
            bins=self.bins,
            frame=self.frame,
            control_period_s=self.control_period_s,
            chunk_length=self.chunk_length,
            history_length=self.history_length,
            image_size=self.image_size,
            uses_proprioception=self.uses_proprioception,
            model_hash=self.model_hash,
        )

    @classmethod
    def from_proto(cls, message: common_pb2.ActionSpec) -> ActionSpec:
        """Raises InvalidInput where the message is not a valid spec."""
        return cls(
            dimensions=tuple(ActionDimension.from_proto(d) for d in message.dimensions),
            frame=message.frame,
            control_period_s=message.control_period_s,
            chunk_length=message.chunk_length,
            history_length=message.history_length,
            image_size=message.image_size,
            bins=message.bins,
            uses_proprioception=message.uses_proprioception,
            model_hash=message.model_hash,
        )


@dataclass(frozen=True, eq=False)
class ActionChunk:
    """End-effector actions for the next h control periods.

    Args:
        values: float32[h, D] displacements in the units of `ActionSpec.dimensions`.
        gripper: float32[h] probability that the gripper is closed, in [0, 1].

    Whether the values are finite and within bounds is *not* checked here: that is the robot's
    safety gate, which must see what the policy really said.

    Raises:
        InvalidInput: shapes that do not fit together.
    """

    values: NDArray[np.float32]
    gripper: NDArray[np.float32]

    def __post_init__(self) -> None:
        values = np.ascontiguousarray(self.values, dtype=np.float32)
        gripper = np.ascontiguousarray(self.gripper, dtype=np.float32)
        if values.ndim != 2 or gripper.shape != values.shape[:1] or 0 in values.shape:
            raise InvalidInput(
                f"action chunk: values {values.shape} and gripper {gripper.shape}, "
                "expected [h, D] and [h]"
            )
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "gripper", gripper)

    @property
    def steps(self) -> int:
        return int(self.values.shape[0])

    def to_proto(self) -> common_pb2.ActionChunk:
        return common_pb2.ActionChunk(
            steps=self.values.shape[0],
            dims=self.values.shape[1],
            values=self.values.ravel().tolist(),
            gripper=self.gripper.tolist(),
        )

    @classmethod
    def from_proto(cls, message: common_pb2.ActionChunk) -> ActionChunk:
        """Raises InvalidInput where the declared shape does not fit the data."""
        if len(message.values) != message.steps * message.dims:
            raise InvalidInput(
                f"action chunk: {len(message.values)} values for "
                f"{message.steps} steps of {message.dims} dimensions"
            )
        values = np.array(message.values, dtype=np.float32)
        return cls(
            values=values.reshape(message.steps, message.dims),
            gripper=np.array(message.gripper, dtype=np.float32),
        )


def check_compatible(
    spec: ActionSpec,
    driver_dimensions: Sequence[ActionDimension],
    driver_frame: str,
    min_period_s: float,
) -> None:
    """Refuse a policy whose actions the robot's driver cannot carry out.

    Args:
        spec: of the policy.
        driver_dimensions: what the driver accepts per control period, in its order.
        driver_frame: frame of reference of the driver's displacements.
        min_period_s: shortest control period [s] the driver can keep.

    Raises:
        SpecMismatch: names every difference, not just the first.
    """
    found: list[str] = []
    wanted = [d.name for d in spec.dimensions]
    offered = [d.name for d in driver_dimensions]
    if wanted != offered:
        found.append(f"dimensions: policy {wanted}, robot {offered}")
    by_name = {d.name: d for d in driver_dimensions}
    for want in spec.dimensions:
        have = by_name.get(want.name)
        if have is None:
            continue
        if want.unit != have.unit:
            found.append(f"{want.name} unit: policy {want.unit!r}, robot {have.unit!r}")
        elif want.low < have.low or want.high > have.high:
            found.append(
                f"{want.name} bounds [{want.unit}]: policy [{want.low:g}, {want.high:g}], "
                f"robot [{have.low:g}, {have.high:g}]"
            )
    if spec.frame != driver_frame:
        found.append(f"frame: policy {spec.frame!r}, robot {driver_frame!r}")
    if spec.control_period_s < min_period_s - _PERIOD_TOLERANCE_S:
        found.append(
            f"control period [s]: policy {spec.control_period_s:g}, robot at least {min_period_s:g}"
        )
    if found:
        raise SpecMismatch(
            "policy's actions do not fit this robot: " + "; ".join(found),
            differences="; ".join(found),
            spec_hash=spec.hash,
        )


def canonical_json(value: object) -> bytes:
    """The one spelling of a JSON value that hashes are taken over: sorted keys, no spaces."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode()


def _read_only(values: list[float]) -> NDArray[np.float64]:
    array = np.array(values, dtype=np.float64)
    array.setflags(write=False)
    return array
