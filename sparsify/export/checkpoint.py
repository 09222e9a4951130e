"""`.safetensors`: the state dict of a program, whole or without what masks leave out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeAlias

from torch import Tensor

from sparsify.atomic import writing
from sparsify.coding.bits import equal_bits
from sparsify.coding.planes import check_zstd
from sparsify.coding.sparse_state import SparseState, pruned, sparse_parts, state, trained
from sparsify.coding.tensor_file import TensorFile, write_tensors
from sparsify.errors import ExportError, InputError
from sparsify.naming import first_names
from sparsify.program import Program

__all__ = ["Mode", "save_state", "unpacked_state"]

Mode: TypeAlias = Literal["dense", "packed", "auto"]

_WORTH = 0.9  # of the dense size; above, `auto` keeps a file that every tool reads


def save_state(
    program: Program, path: str | Path, storage: Mode = "dense", *, compress: bool = False
) -> dict[str, Any]:
    """Write the parameters and persistent buffers by their original names; a tied parameter is written once.

    Dense, masked weights are written as zeros, frozen ones with the values that they stay at, and the mask beside them
    as bits; a model's own `load_state_dict` takes the file with `strict=False`. Packed, only what the masks keep is
    written: what is pruned or comes from a seed costs the bits of its mask. `sparsify.load` reads both, and gets the
    masks and what is frozen back. Every tensor has a checksum, and is written and read one at a time.

    Args:
        program: what to write.
        path: where.
        storage: of masked and frozen weights: dense, packed, or auto, packed where that makes them a tenth smaller.
        compress: with zstd; other tools then read nothing of the file, `sparsify unpack` writes it whole.

    Returns:
        What was checked: `bytes`, and `storage` where something is masked or frozen.

    Raises:
        UsageError: it should be compressed, and zstandard is not installed.
        ExportError: what is read back differs.
        InputError: the path cannot be written.
    """
    if compress:
        check_zstd()
    parts, told = sparse_parts(program, pack=storage != "dense")
    dense = storage == "dense"
    if storage == "auto":
        whole = sparse_parts(program, pack=False)
        if sum(part.nbytes for part in parts) > _WORTH * sum(part.nbytes for part in whole[0]):
            (parts, told), dense = whole, True
    with writing(path) as temporary:
        write_tensors(temporary, parts, {**told, **program.provenance}, compress=compress)
        _check(program, temporary, Path(path))
        sparse = {"storage": "dense" if dense else "packed"} if pruned(program) or trained(program) else {}
        return {"bytes": temporary.stat().st_size, **sparse, **({"compress": "zstd"} if compress else {})}


def _check(program: Program, written: Path, path: Path) -> None:
    """Read a file again, and compare every weight and every mask.

    Raises:
        ExportError: something differs.
    """
    found, expected = SparseState(TensorFile(written), path), state(program)
    masks = [(found.chosen.masks, pruned(program)), (found.chosen.trained, trained(program))]
    other = [name for one, two in masks for name, mask in two.items() if not _same(one.get(name), mask)]
    other += [name for name, part in expected.items() if not _same(found.get(name), part.make())]
    if other:
        raise ExportError(f"{path}: {first_names(other)} reads back different from what was written.")


def _same(one: Tensor | None, other: Tensor) -> bool:
    return one is not None and equal_bits(one, other)


def unpacked_state(source: Path, target: Path) -> tuple[list[str], int, int]:
    """Write a packed or compressed `.safetensors` file as a dense one, weight by weight.

    Returns:
        The names of what was packed, and the bytes of both files.

    Raises:
        InputError: the file cannot be read, nothing in it is packed, or it is damaged.
    """
    held = TensorFile(source)
    parts, told = SparseState(held, source).dense()
    names = [part.name for part in parts if part.name not in held or part.name in held.compressed]
    if not names:
        raise InputError(f"{source}: no weight of this file is packed or compressed.")
    with writing(target) as temporary:
        write_tensors(temporary, parts, told)
        return names, source.stat().st_size, temporary.stat().st_size
