"""Landmarks as keypoints: what the loss asks for, and what the encoder can learn from it."""

import pytest
import torch
from torch import nn

from gen2act_learning.config import ModelConfig
from gen2act_learning.data.batches import Landmarks
from gen2act_learning.model import WORKSPACE_CENTER_M, WORKSPACE_SCALE_M, Auxiliary, Policy
from gen2act_learning.model.encoder import Encoded
from gen2act_learning.objective import locate_loss

CENTER = torch.tensor(WORKSPACE_CENTER_M)


class Oracle(nn.Module):
    """Stands for the auxiliary head and says what it is told."""

    def __init__(self, landmarks: Landmarks) -> None:
        super().__init__()
        world = (landmarks.world - CENTER) / WORKSPACE_SCALE_M
        closed = (landmarks.closed * 2 - 1)[:, None, None].expand(-1, world.shape[1], 1)
        self.found = torch.cat([world, closed], dim=-1)

    def locate(self, features: torch.Tensor) -> torch.Tensor:
        return self.found


@pytest.fixture
def landmarks() -> Landmarks:
    generator = torch.Generator().manual_seed(0)
    return Landmarks(
        world=torch.rand(5, 3, 3, generator=generator),
        picture=torch.rand(5, 3, 2, generator=generator) * 0.8 + 0.1,
        closed=torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0]),
    )


def found_at(picture: torch.Tensor, side: int = 28) -> Encoded:
    """An encoder's output whose keypoints are where ``picture`` says."""
    cell = (torch.arange(side) + 0.5) / side
    off = ((cell - picture[..., None]) * side / 0.7) ** 2
    heat = -0.5 * (off[:, :, 1, :, None] + off[:, :, 0, None, :])
    return Encoded(torch.zeros(len(picture), 7, 4), heat, picture)


def test_finding_everything_costs_least(landmarks: Landmarks) -> None:
    exact, metrics = locate_loss(found_at(landmarks.picture), Oracle(landmarks), landmarks, CENTER)
    aside, _ = locate_loss(found_at(landmarks.picture + 0.05), Oracle(landmarks), landmarks, CENTER)
    assert exact < aside
    assert metrics["hand_px"] == pytest.approx(0, abs=1e-3)
    assert metrics["thing_mm"] == pytest.approx(0, abs=1e-3)


def test_errors_are_told_in_pixels_and_millimetres(landmarks: Landmarks) -> None:
    wrong = Landmarks(landmarks.world + 0.01, landmarks.picture, landmarks.closed)
    right_picture = landmarks.picture.clone()
    right_picture[..., 0] += 10 / 224
    _, metrics = locate_loss(found_at(right_picture), Oracle(wrong), landmarks, CENTER)
    assert metrics["thing_px"] == pytest.approx(5, abs=0.01)  # mean of x (10) and y (0)
    assert metrics["place_mm"] == pytest.approx(10, abs=0.01)


def test_what_is_outside_the_picture_is_not_asked_for(landmarks: Landmarks) -> None:
    outside = landmarks.picture.clone()
    outside[:, 0] = torch.tensor([1.4, -0.3])
    truth = Landmarks(landmarks.world, outside, landmarks.closed)
    here, _ = locate_loss(found_at(landmarks.picture), Oracle(landmarks), truth, CENTER)
    moved = landmarks.picture.clone()
    moved[:, 0] += 0.1
    there, _ = locate_loss(found_at(moved), Oracle(landmarks), truth, CENTER)
    assert here == pytest.approx(there.item())


def test_the_encoder_learns_to_find_a_bright_spot(small: ModelConfig) -> None:
    torch.manual_seed(0)
    policy, auxiliary = Policy(small), Auxiliary(small)
    optimizer = torch.optim.Adam(
        [*policy.frame_encoder.parameters(), *auxiliary.locate_head.parameters()], 3e-3
    )
    for _ in range(120):
        at = torch.rand(16, 2) * 0.8 + 0.1
        axis = (torch.arange(64) + 0.5) / 64
        spot = torch.exp(
            -(((axis[None, :, None] - at[:, 1, None, None]) / 0.05) ** 2)
            - ((axis[None, None, :] - at[:, 0, None, None]) / 0.05) ** 2
        )
        encoded = policy.frame_encoder.encode(spot[:, None].repeat(1, 3, 1, 1) * 2 - 1)
        truth = Landmarks(
            world=torch.cat([at, at[:, :1]], -1)[:, None].repeat(1, 3, 1),
            picture=at[:, None].repeat(1, 3, 1),
            closed=torch.zeros(16),
        )
        loss, metrics = locate_loss(encoded, auxiliary, truth, policy.center)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert metrics["hand_px"] < 8  # of 224; a guess is 40 off
