"""The two loops of a resizing, compiled by numba: whole numbers of 32 bits, whose order of adding changes nothing.

Importing this file imports numba, which takes about a second, and the first run on a machine compiles for a few more.

Legend: S side of the kept square, H W rows and columns of the source, K sources of an output, in groups of four.
"""

import numba
import numpy as np
from numba import int32

LINES, LANES = 32, 96  # rows taken at once, and their values: three of each, so that the compiler fills its vectors
BITS = 22  # of a weight
HALF = 1 << BITS - 1


@numba.njit(nogil=True, cache=True, error_model="numpy")
def resize_rows(source_HWC, begin_S, groups_S, weight_SK, resized_CHS, top):  # type: ignore[no-untyped-def]
    """Rows of uint8 (H, W, 4) to `resized_CHS` (3, ..., S) from `top` on, with their columns in front meanwhile."""
    height, width, side = source_HWC.shape[0], source_HWC.shape[1], len(begin_S)
    columns = np.zeros((width + 4, LANES), np.uint8)  # a group may reach beyond the last column, with weights of 0
    total = np.empty(LANES, np.int32)
    for first in range(0, height, LINES):
        count = min(LINES, height - first)
        for row in range(count):
            line = source_HWC[first + row]
            for x in range(width):
                columns[x, row] = line[x, 0]
                columns[x, LINES + row] = line[x, 1]
                columns[x, 2 * LINES + row] = line[x, 2]
        for x in range(side):
            for i in range(LANES):
                total[i] = HALF
            for group in range(groups_S[x]):
                k, at = 4 * group, begin_S[x] + 4 * group
                w0, w1, w2, w3 = weight_SK[x, k], weight_SK[x, k + 1], weight_SK[x, k + 2], weight_SK[x, k + 3]
                for i in range(LANES):
                    near = int32(columns[at, i]) * w0 + int32(columns[at + 1, i]) * w1
                    total[i] += near + int32(columns[at + 2, i]) * w2 + int32(columns[at + 3, i]) * w3
            for i in range(LANES):
                total[i] = min(max(total[i] >> BITS, 0), 255)
            for channel in range(3):
                for row in range(count):
                    resized_CHS[channel, top + first + row, x] = total[channel * LINES + row]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def resize_columns(resized_CHS, begin_S, groups_S, weight_SK, square_CSS):  # type: ignore[no-untyped-def]
    """Columns of (3, H + 3, S) to (3, S, S), both uint8; the last three rows are read with weights of 0."""
    side = resized_CHS.shape[2]
    total = np.empty(side, np.int32)
    for channel in range(3):
        for y in range(len(begin_S)):
            for i in range(side):
                total[i] = HALF
            for group in range(groups_S[y]):
                k, at = 4 * group, begin_S[y] + 4 * group
                w0, w1, w2, w3 = weight_SK[y, k], weight_SK[y, k + 1], weight_SK[y, k + 2], weight_SK[y, k + 3]
                for i in range(side):
                    near = int32(resized_CHS[channel, at, i]) * w0 + int32(resized_CHS[channel, at + 1, i]) * w1
                    far = int32(resized_CHS[channel, at + 2, i]) * w2 + int32(resized_CHS[channel, at + 3, i]) * w3
                    total[i] += near + far
            for i in range(side):
                square_CSS[channel, y, i] = min(max(total[i] >> BITS, 0), 255)
