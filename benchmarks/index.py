"""The inverted index against numpy, in one run:  python benchmarks/index.py --size 10000000

Each figure is the median of --runs runs, and a ratio above 1 says how many times faster the index is. Half the queries
of a lookup are items of the database, half are absent. --billion FOLDER builds one large index from disk instead.
other_indexes.py has a dict and FAISS.
"""

import argparse
import heapq
import os
import resource
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from equihash.command_line import run  # noqa: E402
from equihash.evaluation.ranking import distance_histograms  # noqa: E402
from equihash.search import InvertedIndex, _index, neighbour_codes, probe_codes  # noqa: E402

NB_QUERIES = 1_000_000
NB_PROBES = 64
RADIUS = 2


def seconds(function, runs):
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return median(times)


def mix(numbers):
    """A bijection of uint64 that looks random (splitmix64)."""
    x = np.asarray(numbers, np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def as_codes(numbers):
    return np.ascontiguousarray(numbers, "<u8").view(np.uint8).reshape(-1, 8)


def code_sets(size, rng):
    """Name, and codes as uint64."""
    yield "distinct", mix(np.arange(size))
    yield "duplicates", mix(rng.integers(0, size // 3 + 1, size))
    skewed = mix(np.arange(size))
    skewed[rng.random(size) < 0.5] = 1
    yield "half equal", skewed
    yield "20 codes", mix(rng.integers(0, 20, size))


# ---- The table


class Table:
    def __init__(self):
        print(f"{'codes':<11} {'work':<28} {'index':>12}   {'baseline':<28} {'its figure':>12} {'ratio':>8}")

    def row(self, codes, work, ours, baseline="", theirs=None, unit="s"):
        """Print times in s (or microseconds), and rates in millions a second."""

        def show(value):
            return f"{value / 1e6:9.3f} M/s" if unit == "/s" else f"{value:10.3f} {unit}"

        ratio = "" if theirs is None else f"{(ours / theirs if unit == '/s' else theirs / ours):7.1f}x"
        theirs = "" if theirs is None else show(theirs)
        print(f"{codes:<11} {work:<28} {show(ours):>12}   {baseline:<28} {theirs:>12} {ratio:>8}", flush=True)


def compare(size, runs):
    rng = np.random.default_rng(0)
    table = Table()
    for name, numbers in code_sets(size, rng):
        codes = as_codes(numbers)
        index = InvertedIndex.build(codes)
        build = seconds(lambda: InvertedIndex.build(codes), runs)
        table.row(name, "build", build, "numpy argsort", seconds(lambda: np.argsort(numbers), runs))

        queries = rng.integers(0, 2**64, NB_QUERIES, dtype=np.uint64)
        present = numbers[numbers != 1]
        queries[::2] = present[rng.integers(0, len(present), len(queries[::2]))]
        query_codes = as_codes(queries)
        ordered = np.sort(numbers)
        bisect = NB_QUERIES / seconds(
            lambda: np.searchsorted(ordered, queries, "right") - np.searchsorted(ordered, queries), runs
        )
        table.row(
            name,
            "count, 1M queries",
            NB_QUERIES / seconds(lambda: index.count(query_codes), runs),
            "searchsorted, both sides",
            bisect,
            "/s",
        )
        if name != "20 codes":
            ours = NB_QUERIES / seconds(lambda: index.lookup(query_codes), runs)
            table.row(name, "lookup, 1M queries", ours, "searchsorted, both sides", bisect, "/s")
        classes = rng.integers(0, 2**63, size, dtype=np.uint64)
        table.row(name, "internal collisions", seconds(lambda: index.internal_collisions(classes), runs))
        bytes_an_item = sum(a.nbytes for a in (index.codes, index.ids, index.offsets)) / size
        table.row(name, "memory an item", bytes_an_item, unit="B")
        if name == "distinct":
            probing(table, index, runs, rng)
            distances(table, codes, query_codes, runs)


def plain_probes(z, nb_probes):
    """Multi-probing of one query with heapq."""
    order = np.argsort(np.abs(z)).tolist()
    cost = np.sort(np.abs(z)).tolist()
    code = int.from_bytes(np.packbits(z > 0).tobytes(), "big")
    flip = [1 << (len(cost) - 1 - bit) for bit in order]
    codes, heap = [code], [(cost[0], 0, flip[0])]
    while len(codes) < nb_probes:
        total, last, flips = heapq.heappop(heap)
        codes.append(code ^ flips)
        if last + 1 < len(cost):
            heapq.heappush(heap, (total + cost[last + 1], last + 1, flips | flip[last + 1]))
            heapq.heappush(heap, (total - cost[last] + cost[last + 1], last + 1, flips ^ flip[last] | flip[last + 1]))
    return codes


def probing(table, index, runs, rng):
    logits = rng.normal(0, 8, (NB_QUERIES, 64)).astype(np.float32)
    step = 100_000

    def probe_all(function):
        for start in range(0, NB_QUERIES, step):
            function(probe_codes(logits[start : start + step], NB_PROBES))

    few = logits[:500]
    plain = len(few) / seconds(lambda: [plain_probes(z, NB_PROBES) for z in few], runs)
    name = f"1M x {NB_PROBES} probes"
    table.row(
        "distinct", name, NB_QUERIES / seconds(lambda: probe_all(len), runs), "heapq, one query at a time", plain, "/s"
    )
    table.row(
        "distinct",
        name + ", count",
        NB_QUERIES / seconds(lambda: probe_all(lambda codes: index.count(codes.reshape(-1, 8))), runs),
        "heapq, probes only",
        plain,
        "/s",
    )
    queries = rng.integers(0, 256, (1000, 8), dtype=np.uint8)
    neighbours = neighbour_codes(queries, RADIUS).reshape(-1, 8)
    made = len(neighbours) / seconds(lambda: neighbour_codes(queries, RADIUS), runs)
    table.row("distinct", f"codes within {RADIUS} bits", made, unit="/s")
    found = len(neighbours) / seconds(lambda: index.lookup(neighbours), runs)
    table.row("distinct", f"codes within {RADIUS} bits, lookup", found, unit="/s")


def plain_histogram(codes, query):
    """Items at each Hamming distance from one query."""
    return np.bincount(np.bitwise_count(codes ^ query).sum(axis=1), minlength=65)


def distances(table, codes, queries, runs):
    many, few = queries[:32], queries[:2]
    table.row(
        "distinct",
        "Hamming distances, counted",
        len(many) * len(codes) / seconds(lambda: distance_histograms(codes, many), runs),
        "numpy, one query at a time",
        len(few) * len(codes) / seconds(lambda: [plain_histogram(codes, query) for query in few], runs),
        "/s",
    )


# ---- A billion codes, from disk

HEAVY = 5_000_000  # items that share one code


def classes_of(ids, size):
    """Class numbers: a class has 0 to a few members."""
    return mix(ids) % np.uint64(size)


def write_codes(path, size):
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("codes", (size, 8), np.uint8)
        for start in range(0, size, 2**22):
            ids = np.arange(start, min(start + 2**22, size), dtype=np.uint64)
            numbers = mix(classes_of(ids, size))
            numbers[mix(ids + np.uint64(2**40)) % np.uint64(size) < min(HEAVY, size // 4)] = 1
            dataset[start : start + len(ids)] = as_codes(numbers)
        file["size"] = size


def build(source, out, memory_limit):
    InvertedIndex.build_from_file(source, out, memory_limit)


def look_up(path, size, cold):
    """Seconds to load, then to look 1M codes up the first time and again."""
    if cold:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    queries = as_codes(mix(classes_of(np.arange(NB_QUERIES) + size // 2, size)))
    start = time.perf_counter()
    index = InvertedIndex.load(path)
    loaded = time.perf_counter()
    index.lookup(queries)
    first = time.perf_counter()
    again = seconds(lambda: index.lookup(queries), 3)
    return loaded - start, first - loaded, again


def look_up_sorted(path, size, mmap):
    """Lookups a second of 1M queries as they come, and sorted first, in turn: the median of 7 runs of each."""
    index = InvertedIndex.load(path, mmap)
    index.verify()  # reads every page
    times = {np.inf: [], _index.SORT_FROM: []}
    for repeat in range(7):
        queries = as_codes(mix(classes_of(np.arange(NB_QUERIES) + repeat * NB_QUERIES % size, size)))
        for sort_from, runs in times.items():
            _index.SORT_FROM = sort_from
            runs.append(seconds(lambda: index.lookup(queries), 1))
    return [NB_QUERIES / median(runs) for runs in times.values()]


def collide(path, size):
    return InvertedIndex.load(path).internal_collisions(lambda ids: classes_of(ids, size))


def verify(path):
    InvertedIndex.load(path).verify()


def measured(function, *args):
    start = time.perf_counter()
    result = function(*args)
    return result, time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def step(name, function, *args):
    """Do one step in a process of its own, so that its peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        result, took, peak = pool.submit(measured, function, *args).result()
    print(f"{name:<24} {took / 60:7.2f} min   peak {peak:6.2f} GiB", flush=True)
    return result


def billion(folder, size, memory_limit):
    Path(folder).mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="index_benchmark_", dir=folder))
    source, out = work / "codes.hdf5", work / "index"
    try:
        print(f"{size:,} codes of 8 bytes, {min(HEAVY, size // 4):,} of them equal")
        step("write the codes", write_codes, source, size)
        step("build from file", build, source, out, memory_limit)
        print(
            f"files: codes {source.stat().st_size / 2**30:.2f} GiB, index {out.stat().st_size / 2**30:.2f} GiB, "
            f"{out.stat().st_size / size:.2f} bytes per item"
        )
        for name, cold in (("lookups, cold", True), ("lookups, warm", False)):
            load, first, again = step(name, look_up, out, size, cold)
            print(f"  load {load * 1e3:.1f} ms, 1M lookups {first:.2f} s, again {again:.3f} s")
        for name, mmap in (("lookups, mapped", True), ("lookups, in memory", False)):
            if mmap or out.stat().st_size < memory_limit:
                unsorted, in_order = step(name, look_up_sorted, out, size, mmap)
                print(f"  1M lookups as they come {unsorted / 1e6:.1f} M/s, sorted {in_order / 1e6:.1f} M/s")
        pairs = step("internal collisions", collide, out, size)
        print(f"  {pairs:,} pairs of items with equal codes and different classes")
        step("verify", verify, out)
    finally:
        shutil.rmtree(work)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, help="number of codes (default 10,000,000, or a billion with --billion)")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--billion", metavar="FOLDER", help="work in this folder, 21 GiB, and remove what was made")
    parser.add_argument("--memory", type=float, default=12, metavar="GIB", help="memory limit of --billion's build")
    arguments = parser.parse_args()
    if arguments.billion:
        billion(arguments.billion, arguments.size or 10**9, int(arguments.memory * 2**30))
    else:
        compare(arguments.size or 10**7, arguments.runs)


if __name__ == "__main__":
    run(main)
