"""Byte planes: tensors compressed with zstd, the first bytes of all values together, then the second ones, and so on.

Signs and exponents of trained weights repeat, and lie side by side there; most of a mantissa is noise, which zstd
stores as it is.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sparsify.errors import InputError, UsageError

__all__ = ["check_zstd", "compressed", "decompressed", "longest"]

_LEVEL = 3  # higher ones found no more than a hundredth in weights, and take ten times as long
_FRAME = 64  # bytes that a frame of zstd takes at most beyond its blocks


def check_zstd() -> None:
    """Check before the work starts that there is zstd.

    Raises:
        UsageError: its package is not installed.
    """
    if importlib.util.find_spec("zstandard") is None:
        raise UsageError("Compressing needs the package zstandard: pip install 'sparsify-fx[zstd]'.")


def compressed(value: Tensor) -> Tensor:
    """Return a tensor as `uint8[n]`, one frame of zstd for each plane; frames in a row are a stream of zstd."""
    import zstandard

    planes = value.detach().cpu().reshape(-1, 1).view(torch.uint8).T.contiguous()
    compressor = zstandard.ZstdCompressor(level=_LEVEL)
    frames = b"".join(compressor.compress(plane.numpy().data) for plane in planes)
    return torch.frombuffer(bytearray(frames), dtype=torch.uint8)


def decompressed(code: Tensor, dtype: torch.dtype, shape: Sequence[int]) -> Tensor:
    """Return the tensor of a type and a shape.

    Raises:
        InputError: zstandard is not installed.
        ValueError: the code is not that of such a tensor.
    """
    try:
        import zstandard
    except ImportError:
        raise InputError("its tensors are compressed: pip install 'sparsify-fx[zstd]' to read it") from None
    count, planes = math.prod(shape), dtype.itemsize
    if not 0 < count * planes <= len(code) << 16:  # no block of zstd is that much larger than its code
        raise ValueError(f"{len(code)} bytes are no code of {dtype}{list(shape)}")
    found = torch.empty((planes, count), dtype=torch.uint8)
    whole = found.view(-1).numpy()
    try:
        reader = zstandard.ZstdDecompressor().stream_reader(code.numpy().data, read_across_frames=True)
        done = 0
        while done < len(whole) and (more := reader.readinto(whole[done:])):
            done += more
        if done < len(whole) or reader.read(1):
            raise ValueError(f"the code is not that of {dtype}{list(shape)}")
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error
    return found.T.contiguous().view(-1).view(dtype).view(tuple(shape))


def longest(count: int, dtype: torch.dtype) -> int:
    """Return how many bytes `compressed` gives at most for so many values."""
    return int(dtype.itemsize * (count + count // 128 + _FRAME))
