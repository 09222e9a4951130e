"""What tensor cores compute with the registers of a warp, in numpy, as the PTX manual defines it.

A register of 16-bit numbers is a pair, so operands are `[32 lanes, registers, 2]`, sums `[32 lanes, 4]`.
"""

import numpy as np

LANES = [(lane // 4, lane % 4) for lane in range(32)]


def mma(a, b, c):
    """Return the sums of mma.m16n8k16: 16 x 16 times 16 x 8, added to 16 x 8."""
    left, right = np.zeros((16, 16)), np.zeros((16, 8))
    for lane, (g, t) in enumerate(LANES):
        for number in range(8):  # a0 .. a7
            row = g if number % 4 < 2 else g + 8
            left[row, 2 * t + number % 2 + (8 if number >= 4 else 0)] = a[lane, number // 2, number % 2]
        for number in range(4):  # b0 .. b3
            right[2 * t + number % 2 + (8 if number >= 2 else 0), g] = b[lane, number // 2, number % 2]
    return _added(left @ right, c)


def mma_sp(a, b, c, metadata, selector):
    """Return the sums of mma.sp::ordered_metadata.m16n8k32: 16 x 32 of which half is stored, times 32 x 8."""
    left, right = np.zeros((16, 32)), np.zeros((32, 8))
    for lane, (g, t) in enumerate(LANES):
        for number in range(0, 8, 2):  # two stored numbers of four columns
            row = g if number % 4 < 2 else g + 8
            first = 4 * t + (16 if number >= 4 else 0)
            source = 4 * g + 2 * selector + first // 16  # of two lanes of four, each has 16 columns
            code = int(metadata[source]) >> (16 if row >= 8 else 0) >> (first % 16)  # a group's four bits
            places = code & 3, code >> 2 & 3
            assert places[0] < places[1], "two equal places, or places in the wrong order, are undefined"
            for place, value in zip(places, a[lane, number // 2], strict=True):
                left[row, first + place] = value
        for number in range(8):
            right[2 * t + number % 2 + 8 * (number // 2), g] = b[lane, number // 2, number % 2]
    return _added(left @ right, c)


def _added(product, c):
    sums = np.array(c)
    for lane, (g, t) in enumerate(LANES):
        for number in range(4):
            sums[lane, number] += product[g + 8 * (number // 2), 2 * t + number % 2]
    return sums


def result(c):
    """Return sums as `[16, 8]`."""
    found = np.zeros((16, 8))
    for lane, (g, t) in enumerate(LANES):
        for number in range(4):
            found[g + 8 * (number // 2), 2 * t + number % 2] = c[lane, number]
    return found


def staged(x, halves):
    """Return 8 inputs `[8, K]` as the kernels' second operands, `[steps, halves, 32, 4, 2]`: reshaped as they do it."""
    steps = x.shape[1] // (32 * halves)
    return x.reshape(8, steps, halves, 4, 4, 2).transpose(1, 2, 0, 4, 3, 5).reshape(steps, halves, 32, 4, 2)
