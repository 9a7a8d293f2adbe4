"""The training objective: behaviour cloning plus auxiliary losses (paper, section 3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import TrainConfig
from .data.batches import Batch, FrameBatch, Landmarks
from .model import WORKSPACE_SCALE_M, Auxiliary, Encoded, Policy


def soft_labels(values: Tensor, bins: int, sigma_bins: float) -> Tensor:
    """Values in [-1, 1] of the bound, any shape -> smoothed bin distribution [..., bins]."""
    centre = (values.clamp(-1, 1) + 1) / 2 * bins - 0.5
    distance = torch.arange(bins, device=values.device) - centre[..., None]
    return torch.softmax(-0.5 * (distance / sigma_bins) ** 2, dim=-1)


def prepare_images(images: Tensor, jitter: Tensor | None) -> Tensor:
    """uint8 [B, S, S, 3] -> float [B, 3, S, S] in about [-1, 1]; jitter [B, 2, 3] gain and bias."""
    x = images.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1.0
    if jitter is not None:
        x = x * jitter[:, 0, :, None, None] + jitter[:, 1, :, None, None]
    return x


def color_jitter(episodes: int, strength: float, device: torch.device) -> Tensor:
    """One gain and bias per episode and channel [E, 2, 3]: light changes, colours a little."""
    common = torch.rand(episodes, 2, 1, device=device) * 2 - 1
    single = torch.rand(episodes, 2, 3, device=device) * 2 - 1
    change = strength * (common + 0.5 * single)
    return torch.stack([1 + change[:, 0], change[:, 1]], dim=1)


def scaled_hand(state: Tensor, center: Tensor, *, opening: bool) -> Tensor:
    """Position [m] and closedness (or opening) [..., 4] -> network units."""
    last = state[..., 3:] * 2 - 1
    return torch.cat(
        [(state[..., :3] - center) / WORKSPACE_SCALE_M, -last if opening else last], -1
    )


def track_loss(predicted: Tensor, truth: Tensor, visible: Tensor) -> Tensor:
    """Visibility-weighted squared error of displacements; hidden points weigh a tenth.

    Unknown tracks (NaN) are left out.
    """
    known = torch.isfinite(truth).all(-1)
    weight = (0.1 + 0.9 * visible) * known
    target = torch.where(known[..., None], truth - truth[:, :, :1], 0.0)
    # A moved point weighs more: most random points lie on the static background.
    moved = 1 + 20 * target.norm(dim=-1).amax(dim=-1, keepdim=True).clamp(max=0.2)
    error = ((predicted - target) * 10).square().sum(-1)
    return (error * weight * moved).sum() / known.sum().clamp(min=1)


def encode(policy: Policy, batch: Batch, config: TrainConfig, *, train: bool) -> Encoded:
    """All video frames [E*V], then all robot frames [M]; each once for all its time steps."""
    video_jitter = frame_jitter = None
    if train and config.color_jitter > 0:
        episodes, frames_per_video = batch.video.shape[:2]
        jitter = color_jitter(episodes, config.color_jitter, batch.video.device)
        video_jitter = jitter.repeat_interleave(frames_per_video, 0)
        # A robot's camera and the video of its scene share their light: same jitter for both.
        # A frame's episode follows from any sample that uses it.
        owner = torch.zeros(len(batch.frames), dtype=torch.long, device=batch.video.device)
        owner[batch.history.flatten()] = batch.episode.repeat_interleave(batch.history.shape[1])
        frame_jitter = jitter[owner]
    images = torch.cat(
        [
            prepare_images(batch.video.flatten(0, 1), video_jitter),
            prepare_images(batch.frames, frame_jitter),
        ]
    )
    return policy.frame_encoder.encode(images)


def locate_loss(
    encoded: Encoded, auxiliary: Auxiliary, truth: Landmarks, center: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """Landmarks as keypoints: where in the picture, where in the world, is the hand closed.

    What lies outside the picture or is not known (NaN) is not asked for.
    """
    inside = ((truth.picture > 0) & (truth.picture < 1)).all(-1).float()
    truth = Landmarks(*(value.nan_to_num() for value in truth.__dict__.values()))
    weight = inside / inside.sum().clamp(min=1)
    side = encoded.heat.shape[-1]
    cell = torch.arange(side, device=inside.device) + 0.5
    axis = torch.softmax(-0.5 * ((cell - truth.picture[..., None] * side) / 0.7) ** 2, dim=-1)
    target = (axis[:, :, 1, :, None] * axis[:, :, 0, None, :]).flatten(2)
    heat = -(target * F.log_softmax(encoded.heat.float().flatten(2), dim=-1)).sum(-1)
    picture = (encoded.place.float() - truth.picture).abs().sum(-1)
    found = auxiliary.locate(encoded.features).float()
    wanted = (truth.world - center) / WORKSPACE_SCALE_M
    world = F.smooth_l1_loss(found[..., :3], wanted, beta=0.05, reduction="none").sum(-1)
    closed = F.smooth_l1_loss(found[:, 0, 3], truth.closed * 2 - 1, reduction="none")
    loss = ((0.3 * heat + 10.0 * picture + 3.0 * world) * weight).sum()
    loss = loss + 0.3 * (closed * inside[:, 0]).mean()
    with torch.no_grad():
        per_point = inside.sum(0).clamp(min=1)
        pixels = (picture * inside).sum(0) / per_point / 2 * 224
        off = (found[..., :3] - wanted).abs().mean(-1) * WORKSPACE_SCALE_M * 1000
        millimetres = (off * inside).sum(0) / per_point
        metrics = {"locate": loss.item()}
        for index, name in enumerate(("hand", "thing", "place")):
            metrics[f"{name}_px"] = pixels[index].item()
            metrics[f"{name}_mm"] = millimetres[index].item()
    return loss, metrics


def place_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """Smooth L1 over the positions that are known (not NaN)."""
    known = torch.isfinite(truth).all(-1, keepdim=True)
    error = F.smooth_l1_loss(predicted, truth.nan_to_num(), beta=0.1, reduction="none")
    return (error * known).sum() / (known.sum() * truth.shape[-1]).clamp(min=1)


def position_error_mm(predicted: Tensor, truth: Tensor) -> float:
    """Mean over what is known; NaN where nothing is."""
    error = (predicted[..., :3] - truth[..., :3]).abs().nanmean()
    return error.item() * WORKSPACE_SCALE_M * 1000


def locate_only(
    policy: Policy, auxiliary: Auxiliary, batch: FrameBatch, config: TrainConfig
) -> tuple[Tensor, dict[str, float]]:
    """The frame encoder's own objective: landmarks found in single frames."""
    jitter = color_jitter(len(batch.images), config.color_jitter, batch.images.device)
    encoded = policy.frame_encoder.encode(prepare_images(batch.images, jitter))
    return locate_loss(encoded, auxiliary, batch.landmarks, policy.center)


def video_losses(
    goal: Tensor, auxiliary: Auxiliary, batch: Batch, center: Tensor
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """What the goal tokens [E, N, W] tell of the video: the hand's path, where it acts and ends."""
    hand = scaled_hand(batch.hand, center, opening=False)
    path = auxiliary.hand_path(goal)
    contact = (batch.contact - center) / WORKSPACE_SCALE_M
    contact_points = auxiliary.contact_points(goal)
    parts = {"hand": place_loss(path, hand), "contact": place_loss(contact_points, contact)}
    with torch.no_grad():
        errors = {
            "path_mm": position_error_mm(path, hand),
            "contact_mm": position_error_mm(contact_points, contact),
        }
    return parts, errors


def losses(
    policy: Policy, auxiliary: Auxiliary, batch: Batch, config: TrainConfig, *, train: bool
) -> tuple[Tensor, dict[str, float]]:
    """Total loss and its parts, with the action error in mm and terminate precision/recall.

    Conditioned on language, what asks the goal tokens about the video falls away.
    """
    cfg, weights = config.model, config.loss
    episodes, frames_per_video = batch.video.shape[:2]
    encoded = None
    if batch.frames.is_floating_point():  # a frozen encoder's features
        features = torch.cat([batch.video.flatten(0, 1), batch.frames]).float()
    else:
        encoded = encode(policy, batch, config, train=train)
        features = encoded.features
    video_features, frame_features = features.split(
        [episodes * frames_per_video, len(batch.frames)]
    )
    video_features = video_features.unflatten(0, (episodes, frames_per_video))
    language = config.conditioning == "language"
    goal = policy.goal(batch.words if language else video_features)
    kv = [layer[batch.history] for layer in policy.robot_resampler.project(frame_features)]
    newest = frame_features[batch.history[:, -1]]
    robot = policy.robot_resampler.join(policy.robot_resampler.resample(kv), newest)
    state = batch.state[batch.history]
    if train:
        # Real encoders are noisy, and a policy must not read progress off the last millimetre.
        state = state + torch.randn_like(state) * torch.tensor(
            [0.002] * 3 + [0.02], device=state.device
        )
    out = policy.act(robot, goal[batch.episode], state if cfg.proprioception else None)

    low, high = (
        torch.tensor([getattr(d, end) for d in config.dimensions], device=batch.actions.device)
        for end in ("low", "high")
    )
    target = (batch.actions - low) / (high - low) * 2 - 1
    labels = soft_labels(target, cfg.bins, config.label_sigma_bins)
    log_p = F.log_softmax(out.action.float(), dim=-1)
    # The first action is the one that runs when the network keeps up: it weighs most.
    step_weight = torch.tensor([1.0, 0.5, 0.35, 0.25], device=log_p.device)[: cfg.chunk]
    step_weight = step_weight / step_weight.sum()
    action = (-(labels * log_p).sum(-1).mean(-1) * step_weight).sum(1).mean()
    centres = (torch.arange(cfg.bins, device=log_p.device) + 0.5) / cfg.bins * 2 - 1
    mean = (log_p.exp() * centres).sum(-1)
    action_mean = ((mean - target.clamp(-1, 1)).square().mean(-1) * step_weight).sum(1).mean()
    gripper = F.binary_cross_entropy_with_logits(out.gripper.float(), batch.gripper)
    terminate = F.binary_cross_entropy_with_logits(
        out.terminate.float(),
        batch.terminate,
        pos_weight=torch.tensor(weights.terminate_positive, device=log_p.device),
    )
    total = (
        action
        + weights.action_mean * action_mean
        + weights.gripper * gripper
        + weights.terminate * terminate
    )
    parts = {"action": action, "gripper": gripper, "terminate": terminate}
    told: dict[str, float] = {}
    if not language:
        seen, told = video_losses(goal, auxiliary, batch, policy.center)
        total = total + weights.hand * seen["hand"] + weights.contact * seen["contact"]
        parts |= seen
    located: dict[str, float] = {}
    if encoded is not None:
        locate, located = locate_loss(encoded, auxiliary, batch.landmarks, policy.center)
        total = total + weights.locate * locate
    if weights.track > 0:
        tracks: dict[str, Tensor] = {}
        if not language:
            part = slice(config.track_episodes)
            first = video_features[part, 0]
            predicted = auxiliary.track_goal(batch.points[part], first, goal[part])
            tracks["track_goal"] = track_loss(predicted, batch.tracks[part], batch.visible[part])
        part = slice(None, None, max(1, len(robot) // config.track_samples))
        begin = batch.robot_tracks[part, :, 0].nan_to_num()
        first = frame_features[batch.history[part, 0]]
        predicted = auxiliary.track_robot(begin, first, robot[part])
        tracks["track_robot"] = track_loss(
            predicted, batch.robot_tracks[part], batch.robot_visible[part]
        )
        total = total + weights.track * torch.stack(list(tracks.values())).sum()
        parts |= tracks
    with torch.no_grad():
        argmax = centres[out.action.argmax(-1)]
        off = (argmax[:, 0] - target[:, 0].clamp(-1, 1)).abs() * (high - low) / 2
        error = off.mean() * 1000
        fired = out.terminate > 0
        hit = (fired & (batch.terminate > 0.5)).sum()
        metrics = {key: value.item() for key, value in parts.items()}
        metrics |= located | told
        metrics |= {
            "error_mm": float(error),
            "terminate_precision": float(hit / fired.sum().clamp(min=1)),
            "terminate_recall": float(hit / (batch.terminate > 0.5).sum().clamp(min=1)),
            "gripper_accuracy": float(((out.gripper > 0) == (batch.gripper > 0.5)).float().mean()),
        }
    return total, metrics
