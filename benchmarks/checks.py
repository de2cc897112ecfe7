"""What provenance and checksums cost, as a share of each stage: python benchmarks/checks.py

The stages are run as they are, in a temporary folder, and the time spent in everything that only serves trust (digests,
checksums, comparing what made the files) is added up. Where that runs beside other work it is counted in full, so that
the share is an upper bound. Training and encoding are real, of few steps and mosaics; the other stages have ten million
items with simulated fingerprints (see stages.py) and 100,000 queries of each kind.
"""

import argparse
import os
import runpy
import subprocess
import sys
import tempfile
import threading
import time
from importlib import import_module
from pathlib import Path
from unittest import mock

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "benchmarks")]
os.environ["TQDM_DISABLE"] = "1"

from stages import BANK_SIZE, MODEL, TASK, enter, simulate_encoding

# module, or class of a module, and the names in it
CHECKS = {
    "equihash.fingerprints.encoding": "provenance weights_digest",
    "equihash.fingerprints.row_file": "checksums",
    "equihash.fingerprints.fingerprint_file": "checksums check_provenance weights_digest",
    "equihash.fingerprints.indexing": "provenance check_provenance digest_of",
    "equihash.label_generation": "checksum provenance",
    "equihash.labels": "checksum digest_of sample_digest",
    "equihash.labels.Labels": "verify",
    "equihash.search.building": "checksum",
    "equihash.search.inverted_index": "checksum",
    "equihash.search.inverted_index.InvertedIndex": "verify",
    "equihash.evaluation.encoded_database": "check_provenance",
    "equihash.evaluation.results": "provenance",
    "equihash.state": "weights_digest",
    "equihash.provenance": "provenance check_provenance",
    "equihash.datasets.dataset.Dataset": "digest",
}


class Stopwatch:
    """Adds up the time in functions, that of a function within a function once."""

    def __init__(self):
        self.spent, self.within = 0.0, threading.local()

    def watch(self, owner, name):
        function = getattr(owner, name)

        def timed(*args, **kwargs):
            if getattr(self.within, "it", False):
                return function(*args, **kwargs)
            self.within.it, start = True, time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.within.it = False
                self.spent += time.perf_counter() - start

        setattr(owner, name, timed)


def run_watched(script, arguments):
    """In a process of its own: run a script, and print the seconds spent in checks to stderr."""
    stopwatch = Stopwatch()
    for place, names in CHECKS.items():
        module, _, cls = place.rpartition(".")
        owner = getattr(import_module(module), cls) if cls[0].isupper() else import_module(place)
        for name in names.split():
            stopwatch.watch(owner, name)
    sys.argv = [script, *arguments]
    try:
        runpy.run_path(str(REPOSITORY / script), run_name="__main__")
    finally:
        print(f"checks {stopwatch.spent}", file=sys.stderr)


def show(script, *arguments):
    start = time.perf_counter()
    result = subprocess.run([sys.executable, __file__, "--watch", script, *arguments], text=True, capture_output=True)
    took = time.perf_counter() - start
    if result.returncode:
        sys.exit(result.stderr)
    spent = float(result.stderr.rsplit("checks ", 1)[1])
    print(f"{script:<30} {took:8.2f} s   checks {1e3 * spent:7.1f} ms   {spent / took:6.2%}", flush=True)


def simulate(arguments):
    with mock.patch("equihash.fingerprints.encoding.encode_items", simulate_encoding(0.01)):
        sys.argv = ["encode.py", TASK, *arguments]
        runpy.run_path(str(REPOSITORY / "encode.py"), run_name="__main__")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=10_000_000, help="items (default: 10,000,000)")
    parser.add_argument("--steps", type=int, default=20, help="of training (default: 20)")
    parser.add_argument("--encoded", type=int, default=50_000, help="mosaics really encoded (default: 50,000)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        enter(folder)
        queries = ["-p100000", "-n100000", "-t100000", f"-b{BANK_SIZE}", "-m", "2", "2"]
        show("generate_labels.py", TASK, "large", f"-d{args.size}", *queries)
        show(
            "generate_labels.py", TASK, "small", f"-d{args.encoded}", *[each.replace("00000", "00") for each in queries]
        )
        show("train.py", TASK, MODEL, "-a", f"nb_steps:{args.steps}", "eval_freq:10", "eval_size:1000")
        show("encode.py", TASK, "small", MODEL)
        for job in "01":
            simulate(["large", MODEL, "--job_id", job, "--nb_jobs", "2"])
        show("merge.py", TASK, "large", MODEL, "--nb_jobs", "2")
        show("build_index.py", TASK, "large", MODEL)
        show("evaluate_binary_equihash.py", TASK, "large", MODEL)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--watch"]:
        run_watched(sys.argv[2], sys.argv[3:])
    else:
        main()
