"""Time the Shannon gradient: python benchmarks/shannon.py (from the repository root).

For each set of tuples of 64 bits: the median time of a gradient; its multiplications and additions; their rate as a
fraction of the rate of a square matrix product, measured in the same run; the peak of memory above what was held
before; and how many times longer plain gathering takes. That baseline gathers the bits of a few tuples at a time and
lets autograd differentiate their entropies; it is timed on some of the tuples, and scaled to all of them.
"""

import argparse
import ctypes
import os
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import torch

from equihash.command_line import add_device_argument, run
from equihash.devices import select_device
from equihash.losses import ShannonGradient, training_tuples
from equihash.process_settings import keep_freed_memory

NB_BITS = 64
CASES = {
    "all pairs": (2, 2, 1),
    "all triplets": (3, 3, 1),
    "covering quads": (4, 3, 1),
    "four times as many": (4, 3, 166656),
}
GEMM_SIZE = 2048
BASELINE_TUPLES, BASELINE_BATCH = 512, 32


def gathering_gradient(logits, tuples):
    """Gradient of minus the sum of entropies, a few tuples at a time."""
    gradient = torch.zeros_like(logits)
    for batch in tuples.split(BASELINE_BATCH):
        gathered = logits[:, batch].requires_grad_()
        probabilities = torch.stack([(-gathered).sigmoid(), gathered.sigmoid()], dim=-1)
        products = probabilities[:, :, 0]
        for i in range(1, tuples.shape[1]):
            products = (products[..., None] * probabilities[:, :, i, None]).flatten(2)
        joints = products.mean(dim=0)
        torch.special.entr(joints).sum().neg().backward()
        gradient.index_add_(1, batch.flatten(), gathered.grad.flatten(1))
    return gradient


def gflop(tuples, nb_rows):
    """Multiplications and additions of the matrix products, in 10^9.

    All triplets appear with each of their bits as a tail (and pairs likewise), beside the columns of the heads' own
    bits; a quad costs its joints once, and its log-ratios on both sides.
    """
    nb_tuples, size = tuples.shape
    if size == 4:
        per_row = nb_tuples * (16 + 2 * 16)
    else:
        nb_heads = len(training_tuples(NB_BITS, size - 1, size - 1))
        per_row = nb_heads * 2 ** (size - 1) * (2 + 1) * NB_BITS
    return 2e-9 * per_row * nb_rows


def seconds(function, nb_runs, device):
    """Median time of `function`, after one call that is not counted."""
    times = []
    for _ in range(nb_runs + 1):
        start = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def peak_bytes(function, device):
    """Most memory held during `function`, above what was held before."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        function()
        return torch.cuda.max_memory_allocated(device) - before
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak starts again from what is held now
    before = _kibibytes("VmRSS")
    function()
    return 1024 * (_kibibytes("VmHWM") - before)


def _kibibytes(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4096, help="number of logit vectors (default: 4096)")
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each case (default: 5)")
    add_device_argument(parser)
    args = parser.parse_args()
    keep_freed_memory()
    device = select_device(args.device)
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(args.rows, NB_BITS, generator=generator)).to(device)

    print(f"{args.rows} logits x {NB_BITS} bits on {device}, float32, {torch.get_num_threads()} threads")
    print("| tuples | number | ms | GFLOP | of GEMM rate | peak MiB | gathering, ms | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, (size, cover_size, minimum_number) in CASES.items():
        tuples = training_tuples(NB_BITS, size, cover_size, minimum_number)
        shannon = ShannonGradient(tuples, NB_BITS, device)
        peak = peak_bytes(lambda: shannon(logits), device)
        duration = seconds(lambda: shannon(logits), args.runs, device)
        square = torch.randn(GEMM_SIZE, GEMM_SIZE, device=device)
        gemm_rate = 2e-9 * GEMM_SIZE**3 / seconds(lambda: square @ square, args.runs, device)
        some = torch.as_tensor(tuples[:: -(-len(tuples) // BASELINE_TUPLES)], device=device)
        scale = len(tuples) / len(some)
        baseline = scale * seconds(lambda: gathering_gradient(logits, some), 1, device)
        work = gflop(tuples, args.rows)
        print(
            f"| {name} | {len(tuples):,} | {1e3 * duration:.0f} | {work:.1f} | {work / duration / gemm_rate:.2f} "
            f"| {peak / 2**20:.0f} | {1e3 * baseline:.0f} | {baseline / duration:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    run(main)
