"""The hash behind `seeded`: its constants, which files of users depend on and which may never change."""

from __future__ import annotations

import math

__all__ = ["DEVIATION", "DISTRIBUTIONS", "GOLDEN", "HALVES", "MEAN", "ROUNDS", "words"]

DISTRIBUTIONS = ("uniform", "normal", "sign")
ROUNDS = ((16, 0x21F0AAAD), (15, 0xD35A2D97), (15, 1))  # shift, factor: a bijection of 32 bits that mixes well
GOLDEN = 0x9E3779B9  # 2^32 / φ, so that neighbouring streams have keys far apart
HALVES = 8  # 16-bit numbers, of which a normal value is the sum
MEAN = HALVES * 65535 // 2
DEVIATION = math.sqrt(HALVES * (65536**2 - 1) / 12)


def words(distribution: str) -> int:
    """Return how many numbers are hashed for one value."""
    return HALVES // 2 if distribution == "normal" else 1
