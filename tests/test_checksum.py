"""Checksums: what a flip, a swap and a cut do, against the formula in numpy."""

import numpy as np
import pytest
from equihash._checksum import checksum, checksums

GOLDEN = 0x9E3779B97F4A7C15


@pytest.mark.parametrize("shape, dtype", [((70_001,), np.uint64), ((100_000, 8), np.uint8), ((9, 2, 2), np.uint16)])
def test_checksum_is_a_weighted_sum(shape, dtype):
    rows = np.random.default_rng(0).integers(0, 255, shape).astype(dtype)
    words = rows.reshape(len(rows), -1).view(np.uint64).reshape(-1)
    weights = (2 * np.arange(len(rows), dtype=np.uint64) + np.uint64(1)) * np.uint64(GOLDEN)
    assert checksum(rows) == int((words * weights).sum())


@pytest.mark.parametrize("nbytes", [1, 3, 4, 8, 12, 256])
def test_parts_add_up_and_every_flip_shows(nbytes):
    rng = np.random.default_rng(nbytes)
    rows = rng.integers(0, 256, (1300, nbytes), dtype=np.uint8)
    whole, runs = checksum(rows), checksums(rows, 500)
    assert whole == (checksum(rows[:700]) + checksum(rows[700:], 700)) % 2**64
    assert len(runs) == 3 and runs.dtype == np.uint64 and runs.all()
    assert np.array_equal(runs, np.concatenate([checksums(rows[i : i + 500], 500) for i in range(0, 1300, 500)]))
    for _ in range(50):
        row, byte, bit = rng.integers(1300), rng.integers(nbytes), rng.integers(8)
        rows[row, byte] ^= 1 << bit
        assert checksum(rows) != whole
        assert np.array_equal(checksums(rows, 500) != runs, np.arange(3) == row // 500)
        rows[row, byte] ^= 1 << bit
    swapped = rows.copy()
    swapped[[5, 1000]] = rows[[1000, 5]]
    assert checksum(swapped) != whole or np.array_equal(rows[5], rows[1000])


def test_zeros_are_not_their_own_checksum():
    assert checksums(np.zeros((1000, 8), np.uint8), 500).all()
    assert checksum(np.empty((0, 8), np.uint8)) == 0 and len(checksums(np.empty((0, 8), np.uint8), 500)) == 0
