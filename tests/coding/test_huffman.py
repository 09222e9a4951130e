"""Huffman codes: by hand, against all codes, and against the entropy."""

import itertools
import math
import random

import pytest

from sparsify.coding.huffman import code_lengths, coded_bits, entropy


def random_counts(seed):
    generator = random.Random(seed)
    return [int(generator.expovariate(0.01)) + 1 for _ in range(generator.randint(2, 300))]


def test_by_hand():
    assert code_lengths([5, 1, 1, 2]) == [1, 3, 3, 2]
    assert coded_bits([5, 1, 1, 2]) == 5 + 3 + 3 + 4
    assert code_lengths([1, 1, 1, 1]) == [2, 2, 2, 2]
    assert code_lengths([1, 2, 4, 8, 16]) == [4, 4, 3, 2, 1]


def test_what_does_not_occur_has_no_code_and_what_is_alone_needs_none():
    assert code_lengths([]) == []
    assert code_lengths([0, 0]) == [0, 0]
    assert code_lengths([0, 7, 0]) == [0, 0, 0]
    assert code_lengths([3, 0, 4]) == [1, 0, 1]
    assert coded_bits([]) == coded_bits([0, 7, 0]) == 0


@pytest.mark.parametrize("seed", range(20))
def test_the_code_is_complete_and_within_a_bit_of_the_entropy(seed):
    counts = random_counts(seed)
    lengths = code_lengths(counts)
    assert sum(2 ** (max(lengths) - length) for length in lengths) == 2 ** max(lengths)  # Kraft's equality
    mean = coded_bits(counts) / sum(counts)
    assert entropy(counts) - 1e-9 <= mean < entropy(counts) + 1
    order = sorted(range(len(counts)), key=lambda symbol: counts[symbol])
    assert all(lengths[a] >= lengths[b] for a, b in itertools.pairwise(order) if counts[a] < counts[b])


def best(counts):
    """Try all lengths that a code can have."""
    possible = itertools.product(range(1, len(counts)), repeat=len(counts))
    costs = [
        sum(count * length for count, length in zip(counts, lengths, strict=True))
        for lengths in possible
        if sum(2.0**-length for length in lengths) <= 1
    ]
    return min(costs)


@pytest.mark.parametrize("seed", range(10))
def test_no_code_takes_fewer_bits(seed):
    counts = random_counts(seed)[:5]
    assert coded_bits(counts) == best(counts)


def test_entropy():
    assert entropy([1, 1, 1, 1]) == 2
    assert entropy([8]) == 0
    assert entropy([0, 3, 0, 1]) == pytest.approx(0.75 * math.log2(4 / 3) + 0.5)
    assert entropy([10, 30]) == pytest.approx(entropy([1, 3]))


def test_powers_of_two_reach_the_entropy():
    counts = [64, 32, 16, 8, 4, 2, 1, 1]
    assert coded_bits(counts) / sum(counts) == entropy(counts)


def test_fibonacci_numbers_make_the_longest_code():
    counts = [1, 1]
    while len(counts) < 60:
        counts.append(counts[-1] + counts[-2])
    assert code_lengths(counts) == [59, *range(59, 0, -1)]
