"""A pass for Olive: a PyTorch model goes in, passes of sparsify run on it, a checked ONNX model comes out.

    olive run --config workflow.json --package-config package.json

`python -m sparsify.integrations.olive > package.json` writes what Olive must know to find the pass; from Python it is
`olive.workflows.run(config, package_config=package_config())`. Needs the extra `olive`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olive.hardware import AcceleratorSpec
from olive.model import ONNXModelHandler
from olive.model.handler.pytorch import PyTorchModelHandlerBase
from olive.package_config import OlivePackageConfig
from olive.passes import Pass
from olive.passes.pass_config import BasePassConfig, PassConfigParam
from torch import nn

from sparsify.capture import capture
from sparsify.errors import UsageError
from sparsify.export.onnx import export_onnx
from sparsify.pipeline import run
from sparsify.program import Program

__all__ = ["Sparsify", "package_config"]


class Sparsify(Pass):  # type: ignore[misc]
    """Prune a PyTorch model and write it as ONNX, in place of OnnxConversion.

    Options of the pass in a workflow: `passes`, specs such as `weight-prune:sparsity=0.9`, first to last; `task`, the
    data that criteria look at (`digits`, `my_task.py:make`); `storage` of pruned weights (`dense`, `packed`, `auto`);
    `seed`. The model is captured with Olive's dummy inputs: give `io_config` or `dummy_inputs_func`.
    """

    @classmethod
    def _default_config(cls, accelerator_spec: AcceleratorSpec) -> dict[str, PassConfigParam]:
        return {
            "passes": PassConfigParam(type_=list[str], required=True, description="specs of passes, first to last"),
            "task": PassConfigParam(type_=str, default_value=None, description="data for criteria that need some"),
            "storage": PassConfigParam(type_=str, default_value="dense", description="dense, packed or auto"),
            "seed": PassConfigParam(type_=int, default_value=0, description="of everything that is random"),
        }

    def _run_for_config(self, model: Any, config: BasePassConfig, output_model_path: str) -> ONNXModelHandler:
        if not isinstance(model, PyTorchModelHandlerBase):
            raise UsageError(
                f"Sparsify takes a PyTorch model, not {type(model).__name__}: put it in the place of OnnxConversion, "
                "before what works on ONNX."
            )
        program = _captured(model.load_model().eval(), model.get_dummy_inputs())
        result = run(program, config.passes, task=config.task, seed=config.seed)
        path = Path(output_model_path)
        path = path if path.suffix == ".onnx" else path / "model.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        export_onnx(result.program, path, storage=config.storage)
        return ONNXModelHandler(model_path=str(path.parent), onnx_file_name=path.name)


def package_config() -> dict[str, Any]:
    """Return Olive's own package configuration with the pass `Sparsify` in it."""
    config: dict[str, Any] = OlivePackageConfig.load_default_config().model_dump(mode="json")
    config["passes"]["sparsify"] = {
        "module_path": f"{Sparsify.__module__}.{Sparsify.__name__}",
        "supported_providers": ["*"],
        "supported_accelerators": ["*"],
        "supported_precisions": ["*"],
    }
    return config


def _captured(module: nn.Module, inputs: Any) -> Program:
    if isinstance(inputs, Mapping):
        return capture(module, kwargs=dict(inputs))
    return capture(module, tuple(inputs) if isinstance(inputs, (list, tuple)) else (inputs,))


if __name__ == "__main__":
    Sparsify.__module__ = "sparsify.integrations.olive"  # not __main__, by which Olive could not import it
    sys.stdout.write(json.dumps(package_config(), indent=2) + "\n")
