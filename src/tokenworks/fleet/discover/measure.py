"""Measures what the machine can do at most: reading memory, and float32 products.

What is measured is what numpy does, so that it runs everywhere: reading is the largest value of an
int8 buffer far beyond the caches (numpy's vector loops, one compare a vector, the GIL released);
products are square float32 matrix products by the BLAS that numpy brings, which may lower clocks.
"""

import threading
import time
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

_BUFFER_BYTES = 256 << 20
_LARGEST_BUFFER = 1 << 30
_BEYOND_CACHE = 4  # the buffer is so many times the last-level caches, if memory allows
_MATRIX = 768
_FEWEST_ROUNDS = 3

Timer = Callable[[], float]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes a second of reading memory, with one thread and with `threads`; float32 operations a
    second of a matrix product (a multiply-add is two). `buffer_bytes` were read each round,
    `cache_bytes` is the last level of caches: a buffer not far beyond it reads too fast."""

    read_one_thread: float
    read_all_threads: float
    threads: int
    f32_operations: float
    buffer_bytes: int
    cache_bytes: int


def measure_limits(
    *,
    threads: int,
    cache_bytes: int,
    memory_bytes: int | None,
    seconds: float = 1.0,
    timer: Timer = time.perf_counter,
) -> Limits:
    """Measure for about `seconds` beside making the buffer, of which at most a quarter of
    `memory_bytes` (what is free to take) is used. The best round counts: other programs can only
    make a round slower."""
    size = buffer_size(cache_bytes, memory_bytes)
    buffer = np.ones(size, np.int8)  # written, so that every page is memory of its own
    one = size / min(read_times([buffer], seconds * 0.35, timer))
    parts = np.array_split(buffer, threads)
    all_threads = size / min(read_times(parts, seconds * 0.35, timer)) if threads > 1 else one
    return Limits(
        read_one_thread=one,
        read_all_threads=max(one, all_threads),
        threads=threads,
        f32_operations=_product_rate(seconds * 0.3, timer),
        buffer_bytes=size,
        cache_bytes=cache_bytes,
    )


def buffer_size(cache_bytes: int, memory_bytes: int | None) -> int:
    """Bytes to read: four times the last level of caches, within 256 MiB to 1 GiB, and no more
    than a quarter of the memory that is free to take (but 16 MiB)."""
    wanted = min(max(_BUFFER_BYTES, _BEYOND_CACHE * cache_bytes), _LARGEST_BUFFER)
    if memory_bytes is not None:
        wanted = min(wanted, max(memory_bytes // 4, 16 << 20))
    return wanted


def read_times(
    parts: Sequence[NDArray[np.int8]], seconds: float, timer: Timer = time.perf_counter
) -> list[float]:
    """Seconds that rounds take in which a thread for each part reads it once, for so long."""
    start, end = threading.Barrier(len(parts)), threading.Barrier(len(parts))
    rounds: list[float] = []
    deadline = timer() + seconds
    more = True

    def read(part: NDArray[np.int8], leads: bool) -> None:
        nonlocal more
        while more:
            start.wait()
            began = timer()
            part.max()
            end.wait()
            if leads:
                rounds.append(timer() - began)
                more = len(rounds) < _FEWEST_ROUNDS or timer() < deadline
            start.wait()  # nobody asks for `more` before it is decided

    others = [threading.Thread(target=read, args=(part, False)) for part in parts[1:]]
    for thread in others:
        thread.start()
    read(parts[0], True)
    for thread in others:
        thread.join()
    return rounds


def _product_rate(seconds: float, timer: Timer) -> float:
    """Operations a second of the best float32 product of two square matrices."""
    matrix = np.full((_MATRIX, _MATRIX), 0.5, np.float32)
    out = np.empty_like(matrix)
    rounds: list[float] = []
    deadline = timer() + seconds
    while len(rounds) < _FEWEST_ROUNDS or timer() < deadline:
        began = timer()
        np.matmul(matrix, matrix, out=out)
        rounds.append(timer() - began)
    return 2.0 * _MATRIX**3 / min(rounds)
