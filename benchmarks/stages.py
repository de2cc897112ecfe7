"""Time the stages around the network on a database of ten million: python benchmarks/stages.py

generate_labels.py, build_index.py and evaluate_binary_equihash.py are run as they are, in a temporary folder, on a
million positive and negative queries and a million pairs. Encoding is left out: the fingerprints are simulated, each
bit of an instance differing from its class's own with a given probability. Beside each time stands what the published
code takes, timed once on two cores of the same kind.
"""

import argparse
import os
import re
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
os.environ["TQDM_DISABLE"] = "1"

import numpy as np

from equihash.class_numbers import labels_to_class_numbers

TASK, MODEL, DATABASE = "FastMnistMosaic", "ShannonHamming", "simulated"
BANK_SIZE = 10_000
PUBLISHED = {"generate_labels.py": "32.5 s", "evaluate_binary_equihash.py": "60 s collisions, 28 s scoring"}
BLOCK = 500_000


def simulated_logits(labels, rng, error_rate):
    """Logits float32 (n, 64) of the classes' own random bits, each flipped with a probability."""
    numbers = labels_to_class_numbers(labels, BANK_SIZE).reshape(-1)
    x = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits = np.unpackbits((x ^ (x >> np.uint64(31))).view(np.uint8).reshape(-1, 8), axis=1)
    logits = rng.random(bits.shape, dtype=np.float32) - np.float32(error_rate)  # the few below 0 are flipped
    np.negative(logits, out=logits, where=bits == 0)
    return logits


def simulate_encoding(error_rate):
    """A stand-in for `equihash.fingerprints.encoding.encode_items`."""

    def encode_items(network, database, precision, outputs, first, nb_items, flush_freq, what):
        rng = np.random.default_rng(len(what))
        for start in range(0, nb_items, BLOCK):
            labels = np.asarray(database.labels[first + start : first + min(start + BLOCK, nb_items)])
            logits = simulated_logits(labels, rng, error_rate)
            for output, values in zip(outputs, (np.packbits(logits > 0, axis=1), logits)):
                output.write(start, values)

    return encode_items


def enter(folder):
    """Go to an empty folder that has the repository's configurations and datasets."""
    os.chdir(folder)
    Path("configs").symlink_to(REPOSITORY / "configs")
    Path("data").mkdir()
    Path("data/datasets").symlink_to(REPOSITORY / "data" / "datasets")


def run(script, *arguments):
    """Run a script as a user would; return its seconds and the peak of its memory in GiB."""
    command = [sys.executable, "-c", WRAPPER, REPOSITORY / script, *arguments]
    start = time.perf_counter()
    result = subprocess.run(command, text=True, capture_output=True)
    took = time.perf_counter() - start
    if result.returncode:
        sys.exit(result.stderr)
    return took, int(re.search(r"peak (\d+)", result.stderr)[1]) / 2**20, result.stdout


# prints the peak of the script's memory, in KiB
WRAPPER = """
import atexit, resource, runpy, sys
atexit.register(lambda: print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr))
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def show(script, took, peak):
    print(f"{script:<30} {took:8.1f} s   peak {peak:5.2f} GiB   published: {PUBLISHED.get(script, '-')}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=10_000_000, help="items (default: 10,000,000)")
    parser.add_argument("--queries", type=int, default=1_000_000, help="of each kind, and pairs (default: 1,000,000)")
    parser.add_argument("--error_rate", type=float, default=0.01, help="of a bit (default: 0.01)")
    parser.add_argument("--nb_lookups", nargs="+", default=["1"], help="of evaluate_binary_equihash.py (default: 1)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        enter(folder)
        sizes = [f"-{letter}{args.queries}" for letter in "pnt"]
        sizes += [f"-b{BANK_SIZE}", f"-d{args.size}", "-m", "2", "2"]
        show("generate_labels.py", *run("generate_labels.py", TASK, DATABASE, *sizes)[:2])
        run("train.py", TASK, MODEL, "-d", "cpu", "-a", "nb_steps:0")
        with mock.patch("equihash.fingerprints.encoding.encode_items", simulate_encoding(args.error_rate)):
            sys.argv = ["encode.py", TASK, DATABASE, MODEL, "-d", "cpu"]
            runpy.run_path(str(REPOSITORY / "encode.py"), run_name="__main__")
        show("build_index.py", *run("build_index.py", TASK, DATABASE, MODEL)[:2])
        words = [TASK, DATABASE, MODEL, "-d", "cpu", "--nb_lookups", *args.nb_lookups]
        took, peak, output = run("evaluate_binary_equihash.py", *words)
        show("evaluate_binary_equihash.py", took, peak)
        print(output)


if __name__ == "__main__":
    main()
