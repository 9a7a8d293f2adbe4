"""From the step graph's logits to actions in physical units (paper, section 3.2)."""

import math

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
    logits = output.action_logits
    heads = np.concatenate([output.gripper_logits, output.terminate_logits[:, None]], axis=1)
    # A sum is finite only if every term is; in float64 finite float32 cannot overflow.
    if not math.isfinite(logits.sum(dtype=np.float64) + heads.sum(dtype=np.float64)):
        raise FloatingPointError("the step graph gave a non-finite output")
    dimensions = np.arange(len(spec.dimensions))
    values = spec.bin_centres[dimensions, logits.argmax(axis=-1)]
    probabilities = sigmoid(heads)
    return [
        (ActionChunk(values=values[b], gripper=probabilities[b, :-1]), float(probabilities[b, -1]))
        for b in range(len(values))
    ]
