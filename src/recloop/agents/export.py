"""A trained network as one ONNX file."""

import logging
import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from recloop.agents.module import OBSERVATION

OPSET = 18


def export_onnx(network: nn.Module, observation: dict[str, Tensor], path: Path) -> None:
    """Write ``profile, context, history -> scores`` for any number of rows; equal networks, equal bytes.

    ``observation`` is an example of two rows or more.
    """
    rows = torch.export.Dim("batch", min=1)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network.eval(),
            tuple(observation[name] for name in OBSERVATION),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(OBSERVATION),
            output_names=["scores"],
            dynamic_shapes=tuple({0: rows} for _ in OBSERVATION),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _strip(model)
    onnx.save(model, path)


def _strip(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes: they name folders of this machine, and differ from one to the next."""
    graph = model.graph
    for part in (
        model,
        graph,
        *graph.node,
        *graph.initializer,
        *graph.input,
        *graph.output,
        *graph.value_info,
    ):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
