"""What bfloat16 changes in the fingerprints of a trained network, from the repository root:

python benchmarks/precision.py FastMnistMosaic ShannonHamming -v quickstart -i 0

Pairs of instances of test classes go through the network in float32 and in bfloat16: the share of bits and of
fingerprints that differ between the two precisions, and in each the relevant collision rate, between the precisions as
well (a database encoded in one, queried in the other).
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import torch

from equihash.command_line import add_device_argument, add_experiment_arguments, experiments_from_arguments, run
from equihash.devices import select_device
from equihash.from_config import build_loader
from equihash.inference import compute_logits
from equihash.process_settings import keep_freed_memory
from equihash.state import load_network


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_experiment_arguments(parser, database=False)
    add_device_argument(parser)
    parser.add_argument("--pairs", type=int, default=20_000, help="pairs of instances (default: 20000)")
    args = parser.parse_args()
    keep_freed_memory()
    device = select_device(args.device)
    (experiment,) = experiments_from_arguments(args)
    state = experiment.load_state()
    network = load_network(state, experiment.state_path, device)
    loader = build_loader(state["config"], "test", device, seed=0)
    bits = {torch.float32: [], torch.bfloat16: []}
    for _ in range(-(-args.pairs // loader.size)):
        instances = loader.positive_pairs_batch()
        for precision, parts in bits.items():
            parts.append(compute_logits(network, instances, precision) > 0)
    full, half = (torch.cat(parts) for parts in bits.values())  # (pairs, 2, k)

    differ = full != half
    print(f"{experiment}, {len(full):,} pairs on {device}")
    print(f"bits that differ between float32 and bfloat16          {differ.float().mean():.4%}")
    print(f"fingerprints that differ                               {differ.any(-1).float().mean():.2%}")
    for name, first, second in (
        ("float32", full, full),
        ("bfloat16", half, half),
        ("database in float32, queries in bfloat16", full, half),
    ):
        rate = (first[:, 0] == second[:, 1]).all(-1).float().mean()
        print(f"relevant collision rate, {name + ' ':.<41} {rate:.4f}")


if __name__ == "__main__":
    run(main)
