"""What is measured is bounded, and computed as it is said to be."""

from collections.abc import Iterator
from itertools import count

import pytest

from tokenworks.fleet.discover.measure import buffer_size, measure_limits

MIB = 2**20


@pytest.mark.parametrize(
    ("cache", "memory", "expected"),
    [
        (32 * MIB, None, 256 * MIB),
        (128 * MIB, None, 512 * MIB),
        (4096 * MIB, None, 1024 * MIB),
        (32 * MIB, 400 * MIB, 100 * MIB),
        (32 * MIB, 1 * MIB, 16 * MIB),
    ],
)
def test_the_buffer_is_far_beyond_the_caches_and_leaves_memory(
    cache: int, memory: int | None, expected: int
) -> None:
    assert buffer_size(cache, memory) == expected


def test_rates_are_bytes_and_operations_over_the_best_round() -> None:
    ticks: Iterator[int] = count()

    # Each look at the clock is a second later; a round lies between two looks.
    found = measure_limits(
        threads=1, cache_bytes=0, memory_bytes=0, seconds=6, timer=lambda: float(next(ticks))
    )

    assert found.buffer_bytes == 16 * MIB
    assert found.read_one_thread == found.read_all_threads == 16 * MIB
    assert found.f32_operations == 2.0 * 768**3


def test_real_threads_measure_something_plausible() -> None:
    found = measure_limits(threads=2, cache_bytes=0, memory_bytes=64 * MIB, seconds=0.05)

    assert found.threads == 2
    assert 1e8 < found.read_one_thread <= found.read_all_threads < 1e13
    assert 1e8 < found.f32_operations < 1e15
