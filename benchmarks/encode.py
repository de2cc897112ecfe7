"""Time encoding of FastMnistMosaic: python benchmarks/encode.py (from the repository root).

Mosaics a second in each precision that the device has natively, medians: only made; only put through the network
(untrained); encoded by equihash.fingerprints, all the way to the file; and how many times that is the rate of a plain
loop, timed in the same run (mosaics, network in float32 and channels first, packing and h5py, one after the other),
and of the published code, timed once on two cores of this kind.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
os.environ["TQDM_DISABLE"] = "1"

import h5py
import numpy as np
import torch
from shannon import seconds
from train_step import plain_forward

from equihash.command_line import add_device_argument, run
from equihash.config import load_config
from equihash.datasets.procedural import CHUNK_SIZE, ENCODING_SEED, ProceduralDatabase
from equihash.devices import native_precisions, select_device
from equihash.fingerprints.encoding import encode_items
from equihash.fingerprints.row_file import IDENTITY, RowFile
from equihash.from_config import build_loader, build_network
from equihash.inference import compute_logits
from equihash.process_settings import keep_freed_memory

PUBLISHED = 1150  # mosaics a second
PROVENANCE = dict.fromkeys((*IDENTITY, "precision", "device"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=40_000, help="mosaics (default: 40000)")
    parser.add_argument("--runs", type=int, default=5, help="timed runs (default: 5)")
    add_device_argument(parser)
    args = parser.parse_args()
    keep_freed_memory()
    device = select_device(args.device)
    config = load_config("FastMnistMosaic", "ShannonHamming")
    network = build_network(config, device).eval()
    labels = np.random.default_rng(0).integers(0, 10_000, (args.size, 2, 2), dtype=np.uint16)
    database = ProceduralDatabase(labels, build_loader(config, "test", device), ENCODING_SEED)
    chunks = range(-(-args.size // CHUNK_SIZE))
    some = [database.chunk(number) for number in chunks[:20]]

    def rate(function, nb_mosaics=args.size):
        return nb_mosaics / seconds(function, args.runs, device)

    with tempfile.TemporaryDirectory() as folder:
        number = iter(range(1 << 30))

        def encode(precision):
            path = Path(folder) / f"{next(number)}.hdf5"
            output = RowFile(path, "codes", (args.size, network.k // 8), np.uint8, PROVENANCE)
            encode_items(network, database, precision, [output], 0, args.size, 20, "")

        def encode_plainly():
            with h5py.File(Path(folder) / f"{next(number)}.hdf5", "w") as file:
                codes = file.create_dataset("codes", (args.size, network.k // 8), np.uint8)
                for chunk in chunks:
                    with torch.no_grad():
                        logits = plain_forward(network, database.chunk(chunk)).cpu().numpy()
                    first = chunk * CHUNK_SIZE
                    codes[first : first + len(logits)] = np.packbits(logits > 0, axis=-1)

        print(f"FastMnistMosaic on {device}, {torch.get_num_threads()} threads; mosaics a second")
        making = rate(lambda: [database.chunk(chunk) for chunk in chunks])
        channels_last = network
        rows = []
        for precision in native_precisions(device):
            passing = rate(lambda: [compute_logits(network, part, precision) for part in some], CHUNK_SIZE * len(some))
            rows.append((precision, passing, rate(lambda: encode(precision))))
        network = channels_last.to(memory_format=torch.contiguous_format)
        plain = rate(encode_plainly)
    print("| precision | made | network | encoded | plain | published |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for precision, passing, encoding in rows:
        print(
            f"| {str(precision)[6:]} | {making:,.0f} | {passing:,.0f} | {encoding:,.0f} "
            f"| {encoding / plain:.1f}x | {encoding / PUBLISHED:.1f}x |"
        )


if __name__ == "__main__":
    run(main)
