"""Threads that each do a whole piece of PyTorch's work."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from equihash.threads import map_in_order

MOST_WORKERS = 8  # on the CPU: each holds a piece of work in memory
GPU_WORKERS = 2  # one waits for the device, the other gives it work


def map_on_device(function: Callable, items: Iterable, device: torch.device) -> Iterator:
    """Call a function of PyTorch operations on `device` with each of some items, several at a time; yield the results.

    They come in the order of the items. On the CPU the workers share PyTorch's threads: up to 8 compute one item each.
    """
    nb_threads = torch.get_num_threads()
    threads_each = -(-nb_threads // MOST_WORKERS) if device.type == "cpu" else nb_threads
    nb_workers = nb_threads // threads_each if device.type == "cpu" else GPU_WORKERS
    pool = ThreadPoolExecutor(nb_workers, "worker", torch.set_num_threads, (threads_each,))
    try:
        yield from map_in_order(pool, function, items, ahead=2 * nb_workers - 1)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(nb_threads)  # again: a thread's number is also the default of those to come
