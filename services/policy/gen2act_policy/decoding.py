"""From the step graph's logits to actions in physical units (paper, section 3.2)."""

import numpy as np

from gen2act_contracts.spec import ActionChunk, ActionSpec
from gen2act_policy.history import Floats
from gen2act_policy.runtime import StepOutput


def sigmoid(logits: Floats) -> Floats:
    """Probabilities; written with tanh, which does not overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), dtype=np.float32)


def decode_actions(output: StepOutput, spec: ActionSpec) -> list[tuple[ActionChunk, float]]:
    """For each rollout its chunk and the probability that the stage is over.

    The most likely bin of each dimension, at the centre of the bin, in the spec's units.
    Raises `FloatingPointError` for a non-finite output: a broken model must not move a robot.
    """
    if not all(
        np.isfinite(values).all()
        for values in (output.action_logits, output.gripper_logits, output.terminate_logits)
    ):
        raise FloatingPointError("the step graph gave a non-finite output")
    values = np.asarray(spec.from_bins(output.action_logits.argmax(axis=-1)), dtype=np.float32)
    gripper = sigmoid(output.gripper_logits)
    terminate = sigmoid(output.terminate_logits)
    return [
        (ActionChunk(values=values[b], gripper=gripper[b]), float(terminate[b]))
        for b in range(len(terminate))
    ]
