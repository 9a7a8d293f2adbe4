import numpy as np
import pytest

from gen2act_contracts.spec import ActionSpec
from gen2act_policy.decoding import decode_actions, sigmoid
from gen2act_policy.runtime import StepOutput


def output(bins: list[int], gripper: float = 0.0, terminate: float = 0.0) -> StepOutput:
    logits = np.zeros((1, 4, 3, 256), np.float32)
    for dimension, chosen in enumerate(bins):
        logits[0, :, dimension, chosen] = 5.0
    return StepOutput(
        logits, np.full((1, 4), gripper, np.float32), np.full(1, terminate, np.float32)
    )


def test_actions_are_bin_centres_in_metres(spec: ActionSpec) -> None:
    ((chunk, _),) = decode_actions(output([0, 128, 255]), spec)
    width = 0.1 / 256
    expected = [-0.05 + width / 2, width / 2, 0.05 - width / 2]
    np.testing.assert_allclose(chunk.values, np.tile(expected, (4, 1)), atol=1e-7)


def test_gripper_and_terminate_are_probabilities(spec: ActionSpec) -> None:
    ((chunk, terminate),) = decode_actions(output([1, 2, 3], gripper=100.0, terminate=-2.0), spec)
    np.testing.assert_allclose(chunk.gripper, 1.0)
    assert terminate == pytest.approx(1 / (1 + np.exp(2.0)), abs=1e-6)


def test_sigmoid_does_not_overflow() -> None:
    assert sigmoid(np.array([-1e30, 1e30], np.float32)).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_non_finite_output_never_becomes_an_action(spec: ActionSpec, value: float) -> None:
    for broken in (output([1, 2, 3], gripper=value), output([1, 2, 3], terminate=value)):
        with pytest.raises(FloatingPointError):
            decode_actions(broken, spec)
