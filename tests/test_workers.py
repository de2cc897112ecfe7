import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from equihash.threads import map_in_order
from equihash.workers import map_on_device

CPU = torch.device("cpu")


def test_results_come_in_order_however_long_each_takes():
    delays = [0.02, 0, 0.01, 0, 0, 0.02, 0]

    def wait(number):
        time.sleep(delays[number])
        return number

    assert list(map_on_device(wait, range(7), CPU)) == list(range(7))
    assert list(map_on_device(wait, [], CPU)) == []


def test_what_nobody_waits_for_is_not_begun():
    begun = []

    def work(number):
        begun.append(number)
        time.sleep(0.02)
        return number

    with ThreadPoolExecutor(1) as pool:
        results = map_in_order(pool, work, range(100), 50)
        assert next(results) == 0
        results.close()
    assert len(begun) < 10


@pytest.mark.parametrize("nb_threads, nb_workers, threads_each", [(1, 1, 1), (3, 3, 1), (8, 8, 1), (9, 4, 2)])
def test_the_workers_share_the_threads(nb_threads, nb_workers, threads_each):
    before = torch.get_num_threads()
    torch.set_num_threads(nb_threads)
    barrier = threading.Barrier(nb_workers)

    def meet(_):
        barrier.wait(60)  # all of them work at the same time
        return torch.get_num_threads()

    try:
        assert list(map_on_device(meet, range(nb_workers), CPU)) == [threads_each] * nb_workers
        later = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert torch.get_num_threads() == later[0] == nb_threads
    finally:
        torch.set_num_threads(before)


def test_an_error_ends_the_work():
    started = []

    def work(number):
        started.append(number)
        return 1 // (number - 3)

    with pytest.raises(ZeroDivisionError):
        list(map_on_device(work, itertools.count(), CPU))
    assert len(started) < 100 and not [thread for thread in threading.enumerate() if thread.name.startswith("worker")]
