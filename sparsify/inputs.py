"""Example inputs: written as `1x3x224x224` or `ids:int64[2,128]%30522`, or read from a file of tensors.

A spec says shape and, if wanted, name, type and range. Several specs are separated by commas. Unnamed inputs are
positional; named ones are keyword arguments. Floats are drawn from a normal distribution, integers from 0 to the
number after `%` (default 2: any embedding has two rows), booleans are true.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from sparsify.errors import InputError, UsageError

if TYPE_CHECKING:
    import torch

    from sparsify.program import Program

__all__ = ["agreed_batches", "batch_of", "drawn_like", "fixed_batch", "parse", "repeated", "with_batch"]

_SPEC = re.compile(
    r"(?:(?P<name>[A-Za-z_]\w*):)?"
    r"(?:(?P<type>[a-z]+\d*)(?::|(?=\[)))?"
    r"(?:\[(?P<listed>[\d,\s]*)\]|(?P<crossed>\d+(?:x\d+)*))"
    r"(?:%(?P<range>\d+))?"
)
_MOST = 2**30  # values of an input; more is a slip, or a hostile file
_TYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
_SEPARATOR = re.compile(r",(?![^\[]*\])")  # a comma outside of brackets
_HOW = "Write 1x3x224x224, or name:type[2,128], several separated by commas, or a .npz or .safetensors file."


def parse(spec: str, seed: int = 0) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Make example inputs from a spec, or read them from a `.npz` or `.safetensors` file.

    Args:
        spec: what the user wrote after `--inputs`.
        seed: of the random values.

    Returns:
        Positional and keyword arguments, all tensors on the CPU.

    Raises:
        UsageError: the spec cannot be read.
        InputError: the file cannot be read.
    """
    if Path(spec).suffix in (".npz", ".safetensors"):
        found = _read(Path(spec))
        unnamed = [
            name for name in (f"arr_{i}" for i in range(len(found))) if name in found
        ]  # as numpy.savez calls them
        return tuple(found.pop(name) for name in unnamed), found
    import torch

    generator = torch.Generator().manual_seed(seed)
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for item in _SEPARATOR.split(spec.replace(" ", "")):
        match = _SPEC.fullmatch(item)
        if not match:
            raise UsageError(f"The input spec {item!r} cannot be read. {_HOW}")
        name, type_name = match["name"], match["type"]
        if name in _TYPES and type_name is None:  # `int64:2x5`: a type, not an input called int64
            name, type_name = None, name
        tensor = _draw(match, type_name or "float32", item, generator)
        if name in kwargs:
            raise UsageError(f"The input {name!r} is given twice in {spec!r}.")
        if name is None:
            args.append(tensor)
        else:
            kwargs[name] = tensor
    return tuple(args), kwargs


def _draw(match: re.Match[str], type_name: str, item: str, generator: torch.Generator) -> torch.Tensor:
    import torch

    if type_name not in _TYPES:
        raise UsageError(f"The input spec {item!r} has the unknown type {type_name!r}. Known: {', '.join(_TYPES)}.")
    sizes = match["listed"].split(",") if match["listed"] is not None else match["crossed"].split("x")
    shape = [int(size) for size in sizes if size]
    if 0 in shape:
        raise UsageError(f"The input spec {item!r} has a dimension of size 0; every size must be at least 1.")
    if math.prod(shape) > _MOST:
        raise UsageError(f"The input spec {item!r} has {math.prod(shape):,} values; an example has at most {_MOST:,}.")
    dtype: torch.dtype = getattr(torch, type_name)
    if match["range"] and (dtype == torch.bool or dtype.is_floating_point):
        raise UsageError(f"The input spec {item!r} has a range, but only integers have one; {type_name} has none.")
    if dtype == torch.bool:
        return torch.ones(shape, dtype=dtype)
    if dtype.is_floating_point:
        return torch.randn(tuple(shape), generator=generator).to(dtype)
    bound = max(1, int(match["range"] or 2))
    if bound - 1 > torch.iinfo(dtype).max:
        raise UsageError(f"The input spec {item!r} has a range that {type_name} does not hold.")
    return torch.randint(0, bound, shape, generator=generator).to(dtype)


def _read(path: Path) -> dict[str, Any]:
    import numpy as np
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise InputError(f"The input file {path} does not exist. {_HOW}")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (OSError, EOFError, ValueError, TypeError, AttributeError, BadZipFile, SafetensorError) as error:
        raise InputError(f"The input file {path} cannot be read as named tensors: {error}.") from error


def drawn_like(example: torch.Tensor, shape: Sequence[int], generator: torch.Generator) -> torch.Tensor:
    """Draw values of another shape that look like the example's.

    Floats are normal with the example's mean and deviation; integers and booleans are values of the example, so that
    indices stay inside their tables.

    Args:
        example: whose values are imitated.
        shape: of the result.
        generator: of the random values.
    """
    import torch

    if example.dtype.is_floating_point:
        values = example.detach().to("cpu", torch.float64)
        spread = values.std(unbiased=False).clamp_min(1e-3)
        drawn = torch.randn(tuple(shape), generator=generator, dtype=torch.float64) * spread + values.mean()
        return drawn.to(example.dtype).to(example.device)
    flat = example.reshape(-1)
    chosen = torch.randint(0, max(1, flat.numel()), tuple(shape), generator=generator)
    return flat[chosen.to(flat.device)]


def repeated(examples: torch.Tensor, size: int) -> torch.Tensor:
    """Return a batch of so many examples: the same ones again and again."""
    return examples[[number % len(examples) for number in range(size)]]


def with_batch(program: Program, size: int) -> list[Any]:
    """Return the example's inputs, flat, with a batch of another size where it may vary: the same examples again."""
    leaves = program.example.leaves()
    if not program.dynamic_batch:
        return leaves
    symbol = str(program.batch_symbol)
    return [
        repeated(leaf, size)
        if hasattr(leaf, "shape") and leaf.ndim and str(node.meta["val"].shape[0]) == symbol
        else leaf
        for node, leaf in zip(program.placeholders, leaves, strict=True)
    ]


def batch_of(leaves: Iterable[Any]) -> int:
    """Return how many examples tensors or arrays hold: the first dimension of the first that has one, else 1."""
    return next((len(leaf) for leaf in leaves if getattr(leaf, "ndim", 0)), 1)


def fixed_batch(program: Program) -> int | None:
    """Return how many examples a program runs on if it cannot run on more or fewer."""
    return None if program.dynamic_batch else batch_of(program.example.leaves())


def agreed_batches(fixed: Mapping[str, int | None], asked: Sequence[int] | None, option: str) -> Sequence[int]:
    """Return on how many examples models are measured side by side: what is asked for, else what they fix, else 1.

    Args:
        fixed: by name of the models, the batch size that each is fixed to, or None.
        asked: batch sizes that were said.
        option: that says them.

    Raises:
        UsageError: a model is fixed to another size than is asked for, or than another model is.
    """
    sizes = {size: name for name, size in fixed.items() if size is not None}
    if len(sizes) > 1:
        texts = " and ".join(f"{name} to {size}" for size, name in sizes.items())
        raise UsageError(f"Batch sizes differ: {texts}, and cannot be changed. Capture or export them alike.")
    for size, name in sizes.items():
        if set(asked or [size]) != {size}:
            raise UsageError(f"{name} is captured for a batch size of {size} only: leave {option} out.")
    return asked or list(sizes) or [1]
