"""The table of measurements: which of several ways to compute a product is the fastest on a device.

It is one JSON file for each device in the user's cache (`$XDG_CACHE_HOME/sparsify`, else `~/.cache/sparsify`), which
`sparsify bench --kernels` and the pass `lower` fill. What was measured elsewhere and is shipped lies in
`kernels/measured/`, in files of the same form and name.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch

from sparsify.atomic import writing
from sparsify.errors import InputError

__all__ = ["device_name", "file_of", "key_of", "known", "note"]

_SHIPPED = Path(__file__).parent / "measured"


def key_of(operator: str, dtype: torch.dtype, shape: tuple[int, int], batch: int, detail: str) -> str:
    """Return the name of a problem: sizes are its own, the batch is rounded up to a power of two.

    Args:
        operator: such as `nm_linear`.
        dtype: of the numbers.
        shape: N and K.
        batch: M.
        detail: of the format, such as `2:4` or a density.
    """
    rounded = 1 << max(0, batch - 1).bit_length()
    return f"{operator} {str(dtype).removeprefix('torch.')} {shape[0]}x{shape[1]} {detail} batch {rounded}"


def device_name(device: torch.device) -> str:
    """Return what a device is called, such as `NVIDIA H200`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def file_of(name: str) -> Path:
    """Return where the measurements of a device of this name are kept."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "sparsify" / _file_name(name)


def known(name: str) -> Mapping[str, Mapping[str, float]]:
    """Return all measurements of a device: by problem and way, milliseconds.

    Raises:
        InputError: the file is damaged.
    """
    return _read(name, str(file_of(name)))


def note(name: str, key: str, milliseconds: Mapping[str, float]) -> None:
    """Add the measurement of a problem, in the place of an earlier one.

    Raises:
        InputError: the file cannot be written.
    """
    path = file_of(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from error
    found = {**_load(path), key: {way: round(time, 6) for way, time in milliseconds.items()}}
    with writing(path) as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    _read.cache_clear()


def _file_name(name: str) -> str:
    return re.sub(r"\W+", "-", name).strip("-").lower() + ".json"


@functools.cache
def _read(name: str, path: str) -> Mapping[str, Mapping[str, float]]:
    return {**_load(_SHIPPED / _file_name(name)), **_load(Path(path))}


def _load(path: Path) -> dict[str, dict[str, float]]:
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {key: {way: float(time) for way, time in ways.items()} for key, ways in found.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"The measurements in {path} are damaged; remove the file to measure again.") from error
