"""The index against a dict and FAISS's binary indexes:  python benchmarks/other_indexes.py --size 10000000

Random codes of 64 bits. Half the queries are items, half are absent; for what is within 2 bits, up to 2 bits of the
items are flipped. All answers are exact: their number must be right. Each index is built in a process of its own, on
all cores, and its bytes are what the process has grown by. FAISS is left out where it is not installed (pip install
faiss-cpu).
"""

import argparse
import gc
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from equihash.command_line import run  # noqa: E402
from equihash.search import InvertedIndex, neighbour_codes  # noqa: E402

RADIUS = 2
CHUNK = 1000  # queries whose neighbours are looked up at once


class Ours:
    """equihash.search.InvertedIndex"""

    def __init__(self, codes):
        self.index = InvertedIndex.build(codes)

    def count(self, queries):
        return len(self.index.lookup(queries)[1])

    def count_near(self, queries):
        found = 0
        for start in range(0, len(queries), CHUNK):
            neighbours = neighbour_codes(queries[start : start + CHUNK], RADIUS)
            found += len(self.index.lookup(neighbours.reshape(-1, 8))[1])
        return found

    def one(self, query):
        return self.index[query]


class Dict:
    """dict of lists of ids, by int"""

    def __init__(self, codes):
        self.items = {}
        for i, code in enumerate(codes.view(np.uint64).ravel().tolist()):
            self.items.setdefault(code, []).append(i)

    def count(self, queries):
        return sum(len(self.items.get(code, ())) for code in queries.view(np.uint64).ravel().tolist())

    def count_near(self, queries):
        return sum(self.count(neighbour_codes(query[None], RADIUS)[0]) for query in queries)

    def one(self, query):
        return self.items.get(int.from_bytes(query, sys.byteorder))


class Faiss:
    def __init__(self, codes):
        import faiss

        faiss.omp_set_num_threads(os.cpu_count())
        self.index = self.made_by(faiss, codes)
        self.index.add(codes)

    def count(self, queries):
        return len(self.index.range_search(queries, 1)[2])  # FAISS leaves out what is at the radius

    def count_near(self, queries):
        return len(self.index.range_search(queries, RADIUS + 1)[2])

    def one(self, query):
        return self.index.range_search(query[None], 1)


class Hash(Faiss):
    """FAISS IndexBinaryHash, 64 bits"""

    def made_by(self, faiss, codes):
        return faiss.IndexBinaryHash(64, 64)

    def count_near(self, queries):
        self.index.nflip = RADIUS
        try:
            return super().count_near(queries)
        finally:
            self.index.nflip = 0


class MultiHash(Faiss):
    """FAISS IndexBinaryMultiHash, 3 x 21 bits"""

    def made_by(self, faiss, codes):
        return faiss.IndexBinaryMultiHash(64, 3, 21)  # 2 bits leave one of 3 parts as it is


class IVF(Faiss):
    """FAISS IndexBinaryIVF, 1,024 lists"""

    count_near = None  # it may miss some

    def made_by(self, faiss, codes):
        self.quantizer = faiss.IndexBinaryFlat(64)
        index = faiss.IndexBinaryIVF(self.quantizer, 64, 1024)
        index.train(codes[: 40 * 1024])
        return index


class Flat(Faiss):
    """FAISS IndexBinaryFlat"""

    def made_by(self, faiss, codes):
        return faiss.IndexBinaryFlat(64)


# each with the numbers of queries: exact, within 2 bits
INDEXES = {Ours: (1_000_000, 10_000), Dict: (1_000_000, 200)}
FAISS = {Hash: (1_000_000, 1_000), MultiHash: (10_000, 10_000), IVF: (100_000, 0), Flat: (100, 100)}


def queries_of(codes, number, nb_flips, rng):
    """As many items, of which up to `nb_flips` bits are flipped, as random codes: uint8 (number, 8), shuffled."""
    queries = rng.integers(0, 256, (number, 8), dtype=np.uint8)
    items = codes[rng.integers(0, len(codes), number // 2)]
    for _ in range(nb_flips):
        bits = rng.integers(0, 65, len(items))
        flipped = np.flatnonzero(bits < 64)
        items[flipped, bits[flipped] // 8] ^= (1 << bits[flipped] % 8).astype(np.uint8)
    queries[: len(items)] = items
    return queries[rng.permutation(number)]


def rate(function, queries, runs):
    """Median queries a second; the number of items found must be the number of those that are there."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        found = function(queries)
        times.append(time.perf_counter() - start)
        assert found == len(queries) // 2, (found, len(queries))
    return len(queries) / median(times)


def measure(kind, numbers, size, runs):
    """Seconds to build, bytes per item, exact lookups a second, queries within 2 bits a second, us of one lookup."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (size, 8), dtype=np.uint8)
    exact, near = queries_of(codes, numbers[0], 0, rng), queries_of(codes, numbers[1], RADIUS, rng)
    kind(codes[:50_000])  # what is loaded at the first use
    gc.collect()
    before, start = psutil.Process().memory_info().rss, time.perf_counter()
    index = kind(codes)
    build = time.perf_counter() - start
    gc.collect()
    grown = psutil.Process().memory_info().rss - before
    some = exact[:2000] if numbers[0] > 100 else exact
    times = []
    for query in some:
        start = time.perf_counter()
        index.one(query)
        times.append(time.perf_counter() - start)
    one = median(times) * 1e6
    near = rate(index.count_near, near, runs) if numbers[1] else None
    return build, grown / size, rate(index.count, exact, runs), near, one


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=10**7)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{'':<42} {'build':>8} {'bytes/item':>10} {'lookups/s':>12} {'within 2 bits/s':>15} {'one':>10}")
    for kind, numbers in {**INDEXES, **(FAISS if find_spec("faiss") else {})}.items():
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            build, size, exact, near, one = pool.submit(measure, kind, numbers, arguments.size, arguments.runs).result()
        near = f"{near:,.0f}" if near else "-"
        print(f"{kind.__doc__:<42} {build:6.2f} s {size:10.1f} {exact:12,.0f} {near:>15} {one:7.1f} us", flush=True)


if __name__ == "__main__":
    run(main)
