"""A trained network as one ONNX file."""

import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from recloop.agents.module import OBSERVATION

OPSET = 18


def export_onnx(network: nn.Module, observation: dict[str, Tensor], path: Path) -> None:
    """Write ``profile, context, history -> scores`` for any number of rows.

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
    program.save(str(path), external_data=False)
