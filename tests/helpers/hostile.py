"""Files for the tests of loading: honest ones, and ones that create a marker file when their code runs."""

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn


class Payload:
    """Pickles as a call that creates the marker."""

    def __init__(self, marker: Path) -> None:
        self.call = (os.mkdir, (str(marker),))

    def __reduce__(self):
        return self.call


def code(marker: Path) -> str:
    """An expression that creates the marker."""
    return f"__import__('os').mkdir('{marker}')"


class Net(nn.Module):
    """Has parameters, buffers, a symbolic batch, a keyword input that is a constant, and a structured output."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("table", torch.arange(2.0))

    def forward(self, x, *, mode="mean"):
        if x.shape[0] % 2 == 0:  # leaves a guard in the archive
            x = x + 1
        return {"y": self.norm(self.linear(x)) + self.table, "n": torch.zeros(x.shape[0] * 2)}


def save_exported(path: Path) -> Path:
    """Write an honest `.pt2` archive of Net in evaluation mode."""
    torch.manual_seed(0)
    exported = torch.export.export(
        Net().eval(),
        (torch.randn(6, 4),),
        {"mode": "mean"},
        dynamic_shapes={"x": {0: torch.export.Dim.AUTO}, "mode": None},
    )
    torch.export.save(exported, path, extra_files={"note.txt": "hello"})
    return path


Edit = Callable[[bytes], bytes]


def repack(
    source: Path,
    target: Path,
    edits: dict[str, Edit] | None = None,
    add: dict[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    """Copy a zip archive: entries whose name ends like a key of `edits` are changed, those of `add` are new."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            data = old.read(name)
            for ending, edit in (edits or {}).items():
                data = edit(data) if name.endswith(ending) else data
            new.writestr(name, data)
        folder = old.namelist()[0].partition("/")[0]
        for name, data in (add or {}).items():
            new.writestr(f"{folder}/{name}", data)
    return target


def as_json(change: Callable[[dict], None]) -> Edit:
    """Turn a change of a document into an edit of its bytes."""

    def edit(data: bytes) -> bytes:
        document = json.loads(data)
        change(document)
        return json.dumps(document).encode()

    return edit


def substitute(old: str, new: str) -> Edit:
    """Replace one JSON string by another, wherever it stands as a value or a key."""
    return lambda data: data.replace(json.dumps(old).encode(), json.dumps(new).encode())
