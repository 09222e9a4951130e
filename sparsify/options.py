"""Options that several commands of the command line share, and the groups that their help is divided into."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

__all__ = [
    "GATES",
    "INPUT",
    "OUTPUT",
    "WORK",
    "AsJson",
    "Audit",
    "Compact",
    "Device",
    "Factory",
    "Inputs",
    "Model",
    "Task",
    "Trust",
]

INPUT = Group("Model and data", sort_key=1)
WORK = Group("What to do", sort_key=2)
OUTPUT = Group("Results", sort_key=3)
GATES = Group("Gates: when one fails, no output is written and the exit status is 1", sort_key=4)

Model = Annotated[
    Path,
    Parameter(
        help="a .pt2 archive, an .onnx file, a pickled module, a state dict (with --model), or a Hugging Face folder",
        group=INPUT,
        show_default=False,
    ),
]
Inputs = Annotated[
    str | None,
    Parameter(
        help="example inputs: 1x3x224x224, or ids:int64[2,128]%30522,..., or a .npz or .safetensors file", group=INPUT
    ),
]
Task = Annotated[
    str | None,
    Parameter(
        name="--task", help="data, loss and score: digits, mnist:DIR, my_task.py, package.module:make", group=INPUT
    ),
]
Factory = Annotated[
    str | None,
    Parameter(name="--model", help="what makes the module of a state dict: package.module:factory", group=INPUT),
]
Trust = Annotated[
    bool, Parameter(negative="", show_default=False, help="the file may run code when it is loaded", group=INPUT)
]
Device = Annotated[str, Parameter(help="where the model runs: cpu, cuda, ...", group=INPUT)]
AsJson = Annotated[
    bool, Parameter(name="--json", negative="", show_default=False, help="print JSON and nothing else", group=OUTPUT)
]
Compact = Annotated[
    bool, Parameter(negative="", show_default=False, help="train only the kept values, in little memory", group=WORK)
]
Audit = Annotated[
    bool,
    Parameter(
        negative="", show_default=False, help="check after every training step that what is pruned is zero", group=WORK
    ),
]
