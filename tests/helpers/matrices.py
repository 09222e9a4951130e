"""Matrices and masks that formats must keep bit for bit."""

import torch

SHAPES = [(1, 1), (1, 7), (3, 8), (5, 13), (16, 64), (33, 70), (4, 0), (0, 5)]
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


def matrix(shape, dtype=torch.float32, seed=0):
    """Return a random matrix with NaN, infinities, zeros and -0.0 among its values."""
    generator = torch.Generator().manual_seed(seed)
    value = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    odd = torch.tensor([float("nan"), float("inf"), float("-inf"), 0.0, -0.0], dtype=dtype)
    flat = value.flatten()
    places = torch.randperm(flat.numel(), generator=generator)[: flat.numel() // 3]
    flat[places] = odd[torch.arange(len(places)) % len(odd)]
    return flat.view(shape)


def mask_of(shape, density, seed=0):
    """Return a random mask."""
    generator = torch.Generator().manual_seed(100 + seed)
    return torch.rand(shape, generator=generator) < density


def nm_mask(shape, n, m, seed=0):
    """Return a mask with at most n of every m, and often fewer."""
    generator = torch.Generator().manual_seed(100 + seed)
    kept = torch.zeros(shape, dtype=torch.bool)
    for row in range(shape[0]):
        for start in range(0, shape[1], m):
            length = min(m, shape[1] - start)
            count = int(torch.randint(0, min(n, length) + 1, (), generator=generator))
            kept[row, start + torch.randperm(length, generator=generator)[:count]] = True
    return kept


def bits(value):
    """Return the bits of a tensor as integers, so that NaN and -0.0 compare."""
    sizes = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return value.contiguous().view(sizes[value.element_size()])


def same_bits(one, other):
    """Tell whether two tensors are the same to the last bit."""
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(bits(one), bits(other))


def kept_only(weight, mask):
    """Return the weight with +0.0 where the mask keeps nothing."""
    return torch.where(mask, weight, torch.zeros((), dtype=weight.dtype))
