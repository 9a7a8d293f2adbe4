"""What an exported graph holds, and what not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import nn

from gen2act_learning.onnx_graph import write_graph

TRACE = b'File "/'  # as every line of a stack trace begins
MODELS = Path(__file__).parents[2] / "models"


def test_a_graph_has_the_names_and_axes_asked_for_and_no_path_of_a_machine(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2))
    path = tmp_path / "network.onnx"
    batch = torch.export.Dim("batch", min=1, max=8)
    write_graph(network, {"x": torch.zeros(2, 3)}, ["y"], path, {"x": {0: batch}})
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    (y,) = ort.InferenceSession(str(path)).run(["y"], {"x": x})
    np.testing.assert_allclose(y, network(torch.from_numpy(x)).detach().numpy(), atol=1e-6)
    assert TRACE not in path.read_bytes()


def test_the_shipped_graphs_hold_no_path_of_a_machine() -> None:
    graphs = list(MODELS.rglob("*.onnx"))
    assert graphs
    for path in graphs:
        assert TRACE not in path.read_bytes(), path
