"""Time the making of natural mosaics: python benchmarks/natural_mosaics.py (from the repository root).

Batches of positive pairs are made in turn by NoisyOpenImagesMosaic and by a plain implementation, which takes the
definition step by step over the whole batch. Then each stage is timed alone, on one sub-batch and in one thread, and
compared with what bounds it: a stage that only does arithmetic on each pixel cannot be faster than so many additions
of planes, and sampling reads four pixels of each channel at places that vary.
"""

import argparse
import math
import os
import statistics
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import h5py
import numpy as np
import torch
from torch.nn.functional import grid_sample

from equihash.command_line import add_device_argument, run
from equihash.datasets import NoisyOpenImagesMosaic
from equihash.datasets.color import shift_hue_and_lightness
from equihash.datasets.noisy_open_images_mosaic import HEIGHT, OVERLAP, RESOLUTIONS, SUB_BATCH, WIDTH, put_together
from equihash.datasets.perlin import PerlinNoise
from equihash.devices import select_device
from equihash.process_settings import keep_freed_memory

BANK_SIZE, NB_MAPS = 300, 300
COLOR_OPERATIONS = 38  # on planes, in shift_hue_and_lightness


def make_files(folder):
    """Write a bank of smooth random images, and the stored maps."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(BANK_SIZE, 3, 12, 12, generator=generator)
    images = torch.nn.functional.interpolate(small, size=(180, 180), mode="bicubic").clamp(0, 1) * 255
    with h5py.File(f"{folder}/train.hdf5", "w") as file:
        file["images"] = images.permute(0, 2, 3, 1).to(torch.uint8).numpy()
    with h5py.File(f"{folder}/perlin.hdf5", "w") as file:
        for name, (period, _) in RESOLUTIONS.items():
            noise = PerlinNoise(HEIGHT, WIDTH, period)
            file[name] = noise.maps(noise.draw(NB_MAPS, generator)).to(torch.int8).numpy()


def rgb_to_hls(rgb):
    """Convert float (..., 3, h, w), red, green and blue in [0, 1], to hue in [0, 1), lightness and saturation."""
    red, green, blue = rgb.unbind(-3)
    high, low = rgb.amax(-3), rgb.amin(-3)
    chroma = high - low
    lightness = (high + low) / 2
    grey = chroma == 0
    saturation = torch.where(grey, 0, chroma / torch.where(lightness <= 0.5, high + low, 2 - high - low))
    hue = torch.where(
        red == high,
        (green - blue) / chroma,
        torch.where(green == high, 2 + (blue - red) / chroma, 4 + (red - green) / chroma),
    )
    return torch.stack([torch.where(grey, 0, hue / 6 % 1), lightness, saturation], dim=-3)


def hls_to_rgb(hls):
    """Inverse of `rgb_to_hls`."""
    hue, lightness, saturation = hls.unbind(-3)
    half_chroma = saturation * torch.minimum(lightness, 1 - lightness)
    channels = []
    for n in (0, 8, 4):
        k = (n + 12 * hue) % 12
        channels.append(lightness - half_chroma * torch.minimum(k - 3, 9 - k).clamp(-1, 1))
    return torch.stack(channels, dim=-3)


def plain_batch(bank, maps, labels, nb_instances, generator):
    """The definition, step by step, from tensors on one device: uint8 (n, nb_instances, 3, 180, 270)."""
    device = bank.device
    labels = torch.from_numpy(labels).to(device).repeat_interleave(nb_instances, dim=0)
    n = len(labels)
    left, right = (bank[labels[:, 0, cell]].permute(0, 3, 1, 2).float() for cell in (0, 1))
    logit = math.log(99)
    weight = torch.linspace(-logit, logit, OVERLAP, device=device).sigmoid()
    middle = right[..., :OVERLAP] * weight + left[..., -OVERLAP:] * weight.flip(0)
    mosaics = torch.cat([left[..., :-OVERLAP], middle, right[..., OVERLAP:]], dim=-1).clamp(0, 255).to(torch.uint8)

    hue = torch.rand(n, 1, 1, generator=generator, device=device) / 8 - 1 / 16
    a = torch.rand(n, 1, 1, generator=generator, device=device) * 0.4 - 0.2
    hues, light, saturation = rgb_to_hls(mosaics.float() / 255).unbind(1)
    colored = hls_to_rgb(torch.stack([(hues + hue) % 1, (1 - a.abs()) * light + a.clamp(min=0), saturation], dim=1))

    displacement, maximum = 0, 0
    for resolution, (_, divisor) in zip(maps, RESOLUTIONS.values(), strict=True):
        drawn = torch.randint(0, len(resolution), (2 * n,), generator=generator, device=device)
        displacement = displacement + resolution[drawn].float() / divisor
        maximum = maximum + 127 / divisor
    x, y = (torch.linspace(-1, 1, size, device=device) for size in (WIDTH, HEIGHT))
    x_damping, y_damping = (((1 - axis.abs()) / maximum).clamp(0, 1) for axis in (x, y))
    grid_x = x + displacement[0::2] * x_damping
    grid_y = y[:, None] + displacement[1::2] * y_damping[:, None]
    moved = grid_sample(colored, torch.stack([grid_x, grid_y], dim=-1), padding_mode="border", align_corners=False)
    return (moved.clamp(0, 1) * 255).to(torch.uint8).unflatten(0, (-1, nb_instances))


def median_times(functions, repeats, device):
    """Seconds of each function, median over `repeats` rounds in which they take turns, after one that is not timed."""
    times = [[] for _ in functions]
    for _ in range(repeats + 1):
        for function, taken in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken[1:]) for taken in times]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=64, help="positive pairs a batch (default: 64)")
    parser.add_argument("--repeats", type=int, default=9, help="timed rounds (default: 9)")
    add_device_argument(parser)
    arguments = parser.parse_args()
    keep_freed_memory()
    device = select_device(arguments.device)
    with tempfile.TemporaryDirectory() as folder:
        make_files(folder)
        options = {"size": arguments.pairs, "device": device, "seed": 0}
        fresh = NoisyOpenImagesMosaic(folder, None, **options)
        stored = NoisyOpenImagesMosaic(folder, f"{folder}/perlin.hdf5", **options)
        mapped = NoisyOpenImagesMosaic(folder, None, **options, bank_location="mapped")
        bank = stored.bank[np.arange(BANK_SIZE)]
        maps = [noise.bank[np.arange(NB_MAPS)] for noise in stored.noises]
        time_batches(fresh, stored, mapped, bank, maps, arguments)
        time_stages(fresh, device, arguments.repeats)


def time_batches(fresh, stored, mapped, bank, maps, arguments):
    generator = torch.Generator(stored.device)
    labels = stored.generate_labels(arguments.pairs, 1)[:, 0]
    ours = stored.batch_from_labels(labels, 2, generator.manual_seed(1))
    plain = plain_batch(bank, maps, labels, 2, generator.manual_seed(1))
    difference = (ours.int() - plain.int()).abs()
    print(f"{2 * arguments.pairs} instances on {stored.device}, {torch.get_num_threads()} threads")
    print(f"values that differ: {(difference > 0).float().mean():.4%}, by at most {difference.max()}")
    rows = {
        "plain, stored maps": lambda: plain_batch(bank, maps, labels, 2, generator),
        "stored maps": lambda: stored.batch_from_labels(labels, 2),
        "fresh maps": lambda: fresh.batch_from_labels(labels, 2),
        "fresh maps, mapped bank": lambda: mapped.batch_from_labels(labels, 2),
    }
    times = median_times(list(rows.values()), arguments.repeats, stored.device)
    print("\n| batch | seconds | instances/s | speed-up |\n| --- | --- | --- | --- |")
    for name, seconds in zip(rows, times, strict=True):
        print(f"| {name} | {seconds:.3f} | {2 * arguments.pairs / seconds:.0f} | {times[0] / seconds:.1f} |")


def time_stages(dataset, device, repeats):
    n = SUB_BATCH[device.type]
    nb_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    images = dataset.bank[np.arange(2 * n)]
    planes = put_together(images)
    hue, lightness, *map_draws = dataset._draw(n, dataset.noise_stream)
    grid = dataset.grid.expand(n, -1, -1, -1).permute(0, 2, 3, 1)
    pictures = planes.transpose(0, 1)
    one, other = planes[0].clone(), planes[1].clone()
    stages = {
        "one addition of planes": lambda: torch.add(one, other, out=other),
        "gather and blend": lambda: put_together(dataset.bank[np.arange(2 * n)]),
        "colour": lambda: shift_hue_and_lightness(planes, hue, lightness),
        "displacement maps": lambda: [
            noise.maps(draws.flatten(0, 1)) for noise, draws in zip(dataset.noises, map_draws, strict=True)
        ],
        "sampling": lambda: grid_sample(pictures, grid, padding_mode="border", align_corners=False),
        "to uint8": lambda: pictures.to(torch.uint8),
    }
    times = median_times(list(stages.values()), 10 * repeats, device)
    torch.set_num_threads(nb_threads)
    print("\n| stage, one thread | ns a pixel | in additions of planes |\n| --- | --- | --- |")
    for name, seconds in zip(stages, times, strict=True):
        print(f"| {name} | {1e9 * seconds / (n * HEIGHT * WIDTH):.2f} | {seconds / times[0]:.1f} |")
    print(f"colour is {COLOR_OPERATIONS} operations on planes, each bound as an addition is by the cache's bandwidth")


if __name__ == "__main__":
    run(main)
