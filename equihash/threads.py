"""Work in threads, in the order in which it was given."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from typing import Any

NB_THREADS = cpu_count() or 1


def map_in_order(pool: ThreadPoolExecutor, function: Callable, items: Iterable, ahead: int) -> Iterator[Any]:
    """Like `pool.map`, but with at most `ahead` results that wait to be used: they may be large."""
    waiting = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:  # where one failed, or no more are wanted
            future.cancel()
