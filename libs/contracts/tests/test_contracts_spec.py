import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from gen2act_contracts import pb
from gen2act_contracts.errors import InvalidInput, NonFiniteInput, SpecMismatch
from gen2act_contracts.spec import ActionChunk, ActionDimension, ActionSpec, check_compatible

DIMENSIONS = (
    ActionDimension("dx", "m", -0.05, 0.05),
    ActionDimension("dy", "m", -0.05, 0.05),
    ActionDimension("yaw", "rad", -0.2, 0.4),
)
SPEC = ActionSpec(DIMENSIONS, frame="world", control_period_s=1 / 3, chunk_length=4)


def test_bounds_fall_into_the_first_and_last_bin() -> None:
    assert SPEC.to_bins(SPEC.low).tolist() == [0, 0, 0]
    assert SPEC.to_bins(SPEC.high).tolist() == [255, 255, 255]


def test_values_beyond_the_bounds_count_as_the_bound() -> None:
    assert SPEC.to_bins([[-9.0, 9.0, 9.0]]).tolist() == [[0, 255, 255]]


def test_every_bin_centre_goes_back_to_its_bin() -> None:
    bins = np.repeat(np.arange(256)[:, None], 3, axis=1)

    centres = SPEC.from_bins(bins)

    assert (SPEC.to_bins(centres) == bins).all()
    assert (centres > SPEC.low).all()
    assert (centres < SPEC.high).all()
    assert (centres.astype(np.float32) == SPEC.bin_centres.T).all()


def test_a_round_trip_is_off_by_at_most_half_a_bin() -> None:
    values = np.random.default_rng(0).uniform(SPEC.low, SPEC.high, size=(5, 4, 3))

    back = SPEC.from_bins(SPEC.to_bins(values))

    assert back.shape == values.shape
    half = (SPEC.high - SPEC.low) / 256 / 2
    assert (np.abs(back - values) <= half + 1e-12).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_values_have_no_bin(bad: float) -> None:
    with pytest.raises(NonFiniteInput):
        SPEC.to_bins([0.0, bad, 0.0])


@pytest.mark.parametrize("bad", [[0, 0, 256], [-1, 0, 0], [0.0, 0.0, 0.0], [0, 0], 3])
def test_what_is_no_bin_has_no_centre(bad: object) -> None:
    with pytest.raises(InvalidInput):
        SPEC.from_bins(bad)  # type: ignore[arg-type]


def test_values_of_another_dimensionality_are_refused() -> None:
    with pytest.raises(InvalidInput, match="last axis must be the 3"):
        SPEC.to_bins(np.zeros((4, 2)))


def test_a_spec_survives_json_and_the_wire() -> None:
    spec = dataclasses.replace(SPEC, uses_proprioception=True, model_hash="ab12")

    assert ActionSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    wire = pb.common.ActionSpec.FromString(spec.to_proto().SerializeToString())
    assert ActionSpec.from_proto(wire) == spec
    assert ActionSpec.from_proto(wire).hash == spec.hash


def test_the_hash_does_not_depend_on_how_numbers_were_written() -> None:
    whole = {"low": -1, "high": 1, "name": "dx", "unit": "m"}
    spec = ActionSpec.from_json(
        {"dimensions": [whole], "frame": "world", "control_period_s": 1, "chunk_length": 1}
    )
    floats = ActionSpec((ActionDimension("dx", "m", -1.0, 1.0),), "world", 1.0, 1)

    assert spec.hash == floats.hash


def test_every_field_changes_the_hash() -> None:
    other: dict[str, Any] = {
        "dimensions": DIMENSIONS[:2],
        "frame": "base",
        "control_period_s": 0.25,
        "chunk_length": 5,
        "history_length": 4,
        "image_size": 128,
        "bins": 128,
        "uses_proprioception": True,
        "model_hash": "ab12",
    }

    hashes = {dataclasses.replace(SPEC, **{name: value}).hash for name, value in other.items()}

    assert other.keys() == {field.name for field in dataclasses.fields(ActionSpec)}
    assert len(hashes | {SPEC.hash}) == len(other) + 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"dimensions": ()}, "0 dimensions"),
        ({"dimensions": (DIMENSIONS[0], DIMENSIONS[0])}, "twice"),
        ({"frame": ""}, "frame"),
        ({"control_period_s": 0.0}, "control period 0.0"),
        ({"control_period_s": float("nan")}, "control period nan"),
        ({"chunk_length": 0}, "chunk_length 0"),
        ({"history_length": 1000}, "history_length 1000"),
        ({"image_size": 8}, "image_size 8"),
        ({"bins": 1}, "bins 1"),
    ],
)
def test_an_impossible_spec_is_refused_by_name(change: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        dataclasses.replace(SPEC, **change)


@pytest.mark.parametrize(
    ("unit", "low", "high"),
    [("cm", -1, 1), ("m", 1, 1), ("m", 1, -1), ("m", float("nan"), 1), ("m", 0, float("inf"))],
)
def test_an_impossible_dimension_is_refused(unit: str, low: float, high: float) -> None:
    with pytest.raises(InvalidInput, match="'dx'"):
        ActionDimension("dx", unit, low, high)


@pytest.mark.parametrize(
    "change",
    [
        {"frame": None},
        {"dimensions": None},
        {"dimensions": [{"name": "dx"}]},
        {"dimensions": [{"name": "dx", "unit": "m", "low": "x", "high": 1}]},
        {"chunk_length": "4"},
        {"surplus": 1},
    ],
)
def test_broken_json_is_invalid_input(change: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        ActionSpec.from_json({**SPEC.to_json(), **change})


def test_a_missing_field_is_named() -> None:
    value = SPEC.to_json()
    del value["frame"]

    with pytest.raises(InvalidInput, match="frame"):
        ActionSpec.from_json(value)


def test_a_driver_that_fits_is_accepted() -> None:
    wider = tuple(dataclasses.replace(d, low=-1, high=1) for d in DIMENSIONS)

    check_compatible(SPEC, DIMENSIONS, "world", min_period_s=1 / 3)
    check_compatible(SPEC, wider, "world", min_period_s=0.333333333)


def test_a_mismatch_names_every_difference() -> None:
    driver = [
        ActionDimension("dx", "m", -0.01, 0.05),
        ActionDimension("yaw", "m", -1, 1),
        ActionDimension("dz", "m", -1, 1),
    ]

    with pytest.raises(SpecMismatch) as refused:
        check_compatible(SPEC, driver, "base", min_period_s=0.5)

    for difference in (
        "dimensions: policy ['dx', 'dy', 'yaw'], robot ['dx', 'yaw', 'dz']",
        "dx bounds [m]: policy [-0.05, 0.05], robot [-0.01, 0.05]",
        "yaw unit: policy 'rad', robot 'm'",
        "frame: policy 'world', robot 'base'",
        "control period [s]: policy 0.333333, robot at least 0.5",
    ):
        assert difference in refused.value.message
        assert difference in refused.value.metadata["differences"]


def test_a_chunk_survives_the_wire() -> None:
    chunk = ActionChunk(
        values=np.arange(12, dtype=np.float32).reshape(4, 3),
        gripper=np.array([0, 0.25, 0.5, 1], dtype=np.float32),
    )

    wire = pb.common.ActionChunk.FromString(chunk.to_proto().SerializeToString())
    back = ActionChunk.from_proto(wire)

    assert back.steps == 4
    assert back.values.dtype == np.float32
    assert (back.values == chunk.values).all()
    assert (back.gripper == chunk.gripper).all()


def test_non_finite_actions_reach_the_safety_gate_as_they_are() -> None:
    chunk = ActionChunk(np.full((1, 3), np.nan, dtype=np.float32), np.zeros(1, dtype=np.float32))

    assert np.isnan(ActionChunk.from_proto(chunk.to_proto()).values).all()


@pytest.mark.parametrize(
    "message",
    [
        pb.common.ActionChunk(steps=2, dims=3, values=[0.0] * 5, gripper=[0.0] * 2),
        pb.common.ActionChunk(steps=2, dims=3, values=[0.0] * 6, gripper=[0.0]),
        pb.common.ActionChunk(steps=0, dims=0),
        pb.common.ActionChunk(steps=2**31, dims=2**31),
    ],
)
def test_a_chunk_whose_shape_lies_is_refused(message: pb.common.ActionChunk) -> None:
    with pytest.raises(InvalidInput, match="action chunk"):
        ActionChunk.from_proto(message)
