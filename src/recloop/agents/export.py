"""A trained network as one ONNX file."""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from recloop.agents.module import OBSERVATION

OPSET = 18


class QueryTower(nn.Module):
    """What a searchable network looks for, without the items."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network

    def forward(self, profile: Tensor, context: Tensor, history: Tensor) -> Tensor:
        """float32 (B, D)."""
        return self.network.query(profile, context, history)


def export_onnx(
    network: nn.Module, observation: dict[str, Tensor], path: Path, output: str = "scores"
) -> None:
    """Write ``profile, context, history -> output`` for any number of rows; equal networks, equal bytes.

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
            output_names=[output],
            dynamic_shapes=tuple({0: rows} for _ in OBSERVATION),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _strip(model)
    onnx.save(model, path)


def item_matrix(network: Any) -> np.ndarray | None:
    """float32 (N, D), whose inner products with the queries are the scores; None where there is none."""
    if not getattr(network, "searchable", False):
        return None
    with torch.no_grad():
        return np.ascontiguousarray(network.eval().item_matrix().cpu().numpy(), np.float32)


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
