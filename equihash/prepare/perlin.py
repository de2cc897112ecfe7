"""A file of ready displacement maps, in the layout of the published one."""

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import torch

from equihash.datasets.noisy_open_images_mosaic import HEIGHT, RESOLUTIONS, WIDTH
from equihash.datasets.perlin import FULL_SCALE, PerlinNoise
from equihash.errors import UserError
from equihash.files import atomic, exists, locked, naming, write_all
from equihash.hdf5 import create_hdf5, set_provenance
from equihash.prepare.download import download_hdf5
from equihash.progress import progress_bar
from equihash.provenance import provenance
from equihash.report.drawing import figure_file

PATH = "data/datasets/PerlinNoise/perlin180x270.hdf5"
REPOSITORY = "duchema/perlin180x270"
NB_MAPS = 60_000  # 5.8 GB
BATCH = 100  # maps from one seed; another number gives other maps
SEED = 0xCAFE


def prepare_perlin(nb_maps: int = NB_MAPS, output: str = PATH) -> None:
    """Write `resolution1` and `resolution2`, int8 (nb_maps, 180, 270), full scale +-127.

    Map i does not depend on `nb_maps`. An interrupted run resumes: the maps are first collected in a file beside
    `output`. A `UserError` if `nb_maps` is not positive, or the disk is too small.
    """
    if nb_maps < 1:
        raise UserError(f"nb_maps must be at least 1, not {nb_maps}")
    output = Path(output)
    with locked(output):
        partial = output.with_name(f".{output.name}.partial")
        batch_bytes = BATCH * len(RESOLUTIONS) * HEIGHT * WIDTH
        nb_batches = -(-nb_maps // BATCH)
        # after a power cut the last batch may be zeros
        done = min(max(partial.stat().st_size // batch_bytes - 1, 0), nb_batches) if exists(partial) else 0
        # For a moment there are both the collected maps and the finished file.
        needed = (2 * nb_batches - done) * batch_bytes
        if needed > shutil.disk_usage(output.parent).free:
            raise UserError(f"{output.parent} needs {needed / 1e9:.1f} GB of free disk; make fewer maps (nb_maps)")
        noises = [PerlinNoise(HEIGHT, WIDTH, period) for period, _ in RESOLUTIONS.values()]
        with (
            naming(partial),
            open(partial, "ab", buffering=0) as file,
            progress_bar(total=nb_batches * BATCH, initial=done * BATCH, unit="map") as bar,
        ):
            file.truncate(done * batch_bytes)
            for number in range(done, nb_batches):
                generator = torch.Generator().manual_seed((SEED << 32) + number)
                maps = [noise.maps(noise.draw(BATCH, generator)).round_().to(torch.int8) for noise in noises]
                write_all(file, torch.stack(maps).numpy().tobytes())
                os.fsync(file.fileno())
                bar.update(BATCH)
        batches = np.memmap(partial, np.int8, "r", shape=(nb_batches, len(RESOLUTIONS), BATCH, HEIGHT, WIDTH))
        with atomic(output) as temporary, create_hdf5(temporary) as file:
            for number, name in enumerate(RESOLUTIONS):
                maps = file.create_dataset(name, (nb_maps, HEIGHT, WIDTH), np.int8)
                for first in range(0, nb_maps, BATCH):
                    maps[first : first + BATCH] = batches[first // BATCH, number, : nb_maps - first]
            set_provenance(file, provenance(maps=nb_maps, seed=SEED, resolutions=RESOLUTIONS))
        partial.unlink()


def draw_perlin(output: Path, path: str = PATH, nb_maps: int = 500) -> None:
    """Draw some maps of a file, their power spectrum and statistics.

    The spectrum, averaged over rows, must fall beyond the lattice frequency (dashed). The largest step between
    neighbouring pixels must be far below full scale, or there are seams at the lattice lines.
    """
    with h5py.File(path) as file, figure_file(output, (13, 5), dpi=100) as figure:
        axes = figure.subplots(len(RESOLUTIONS), 4)
        for row, (name, (period, _)) in zip(axes, RESOLUTIONS.items()):
            maps = file[name][:nb_maps].astype(np.float32)
            for axis, one in zip(row, maps[:3]):
                axis.imshow(one, cmap="RdBu", vmin=-FULL_SCALE, vmax=FULL_SCALE)
                axis.set_xticks([])
                axis.set_yticks([])
            power = (np.abs(np.fft.rfft(maps * np.hanning(WIDTH), axis=2)) ** 2).mean((0, 1))
            row[3].semilogy(np.arange(len(power)) / WIDTH, power / max(power.max(), 1e-9))
            row[3].axvline(1 / period, color="k", linestyle="--", label=f"lattice, 1/{period}")
            row[3].set(xlim=(0, 0.1), ylim=(1e-9, 2), xlabel="cycles per pixel", title=f"{name}: power along x")
            row[3].legend(fontsize=7)
            step = max(np.abs(np.diff(maps, axis=axis)).max() for axis in (1, 2))
            row[0].set_title(f"{name}: {maps.min():.0f} to {maps.max():.0f}, mean {maps.mean():.2f}", fontsize=9)
            row[1].set_title(f"standard deviation {maps.std():.1f}, largest step {step:.0f}", fontsize=9)


def download_perlin(output: str = PATH) -> None:
    """Download the published file from Hugging Face; a `UserError` if that fails."""
    download_hdf5(REPOSITORY, "perlin", dict.fromkeys(RESOLUTIONS, (np.int8, (HEIGHT, WIDTH))), output)
