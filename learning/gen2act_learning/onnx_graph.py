"""How a network becomes an ONNX graph: one way for the policy and for the video model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

OPSET = 18


def write_graph(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    path: Path,
    dynamic: Mapping[str, Mapping[int, Any]] | None = None,
) -> None:
    """Write `module` as one ONNX file, without external data.

    Args:
        module: its forward takes the inputs in order.
        inputs: example of each, by name.
        outputs: names.
        path: of the file.
        dynamic: per input the axes of variable length (`torch.export.Dim`); else all are fixed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export warns of its own deprecated internals
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=None
            if dynamic is None
            else tuple(dict(dynamic.get(name, {})) for name in inputs),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    _forget_origin(program.model)
    program.save(str(path), external_data=False)


def _forget_origin(model: Any) -> None:
    """Drops the exporter's notes: stack traces with the paths of the machine it ran on."""
    for graph in (model.graph, *model.functions.values()):
        graph.metadata_props.clear()
        for node in graph.all_nodes():
            node.metadata_props.clear()
            for value in node.outputs:
                value.metadata_props.clear()
        for value in (*graph.inputs, *graph.initializers.values()):
            value.metadata_props.clear()
    model.metadata_props.clear()
