"""Huffman codes: how many bits each symbol takes when frequent ones take fewer."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

__all__ = ["code_lengths", "coded_bits", "entropy"]


def code_lengths(counts: Sequence[int]) -> list[int]:
    """Return the length in bits of every symbol's code word in a code that takes the fewest bits altogether.

    It is 0 for symbols that do not occur, and for one that is alone: it is known without being written.

    Args:
        counts: how often each symbol occurs.

    Reference: Huffman, "A Method for the Construction of Minimum-Redundancy Codes", 1952.
    """
    symbols = [symbol for symbol, count in enumerate(counts) if count > 0]
    heap = [(counts[symbol], place) for place, symbol in enumerate(symbols)]
    heapq.heapify(heap)
    parents = [0] * max(0, 2 * len(symbols) - 1)
    for joined in range(len(symbols), len(parents)):
        (one, left), (other, right) = heapq.heappop(heap), heapq.heappop(heap)
        parents[left] = parents[right] = joined
        heapq.heappush(heap, (one + other, joined))
    depths = [0] * len(parents)
    for place in reversed(range(len(parents) - 1)):  # a parent comes after its children
        depths[place] = depths[parents[place]] + 1
    lengths = [0] * len(counts)
    for place, symbol in enumerate(symbols):
        lengths[symbol] = depths[place]
    return lengths


def coded_bits(counts: Sequence[int]) -> int:
    """Return how many bits all occurrences of all symbols take together, without the table of the code."""
    return sum(count * length for count, length in zip(counts, code_lengths(counts), strict=True))


def entropy(counts: Sequence[int]) -> float:
    """Return Σ p log₂ 1/p, below which no code can bring the mean number of bits of a symbol.

    Reference: Shannon, "A Mathematical Theory of Communication", 1948.
    """
    total = sum(counts)
    return math.fsum(count / total * math.log2(total / count) for count in counts if count > 0)
