"""A file of ready displacement maps, in the layout of the published one."""

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import torch
from tqdm import tqdm

from equihash.datasets.noisy_open_images_mosaic import HEIGHT, RESOLUTIONS, WIDTH
from equihash.datasets.perlin import PerlinNoise
from equihash.errors import UserError
from equihash.files import atomic
from equihash.prepare.download import download_hdf5

PATH = "data/datasets/PerlinNoise/perlin180x270.hdf5"
REPOSITORY = "duchema/perlin180x270"
NB_MAPS = 60_000  # 5.8 GB
BATCH = 100  # maps made from one seed: part of what map i is
SEED = 0xCAFE


def prepare_perlin(nb_maps=NB_MAPS, output=PATH):
    """Write `resolution1` and `resolution2`, int8 (nb_maps, 180, 270), full scale +-127.

    Map i is always the same, whatever `nb_maps`. An interrupted run is taken up where it stopped: the maps are
    gathered in a file beside `output`, which becomes `output` when all are there.

    Raises
    ------
    UserError
        `nb_maps` is not positive, or the disk is too small.
    """
    if nb_maps < 1:
        raise UserError(f"--nb_maps must be at least 1, not {nb_maps}")
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.partial")
    batch_bytes = BATCH * len(RESOLUTIONS) * HEIGHT * WIDTH
    nb_batches = -(-nb_maps // BATCH)
    done = min(partial.stat().st_size // batch_bytes, nb_batches) if partial.exists() else 0
    # The finished file stands beside the gathered maps for a moment.
    needed = (2 * nb_batches - done) * batch_bytes
    if needed > shutil.disk_usage(output.parent).free:
        raise UserError(f"{output.parent} needs {needed / 1e9:.1f} GB of free disk; make fewer maps with --nb_maps")
    noises = [PerlinNoise(HEIGHT, WIDTH, period) for period, _ in RESOLUTIONS.values()]
    with open(partial, "ab") as file, tqdm(total=nb_batches * BATCH, initial=done * BATCH, unit="map") as bar:
        file.truncate(done * batch_bytes)
        for number in range(done, nb_batches):
            generator = torch.Generator().manual_seed((SEED << 32) + number)
            maps = [noise.maps(noise.draw(BATCH, generator)).round_().to(torch.int8) for noise in noises]
            file.write(torch.stack(maps).numpy().tobytes())
            bar.update(BATCH)
        file.flush()
        os.fsync(file.fileno())
    batches = np.memmap(partial, np.int8, "r", shape=(nb_batches, len(RESOLUTIONS), BATCH, HEIGHT, WIDTH))
    with atomic(output) as temporary, h5py.File(temporary, "w") as file:
        for number, name in enumerate(RESOLUTIONS):
            maps = file.create_dataset(name, (nb_maps, HEIGHT, WIDTH), np.int8)
            for first in range(0, nb_maps, BATCH):
                maps[first : first + BATCH] = batches[first // BATCH, number, : nb_maps - first]
    partial.unlink()


def download_perlin(output=PATH):
    """Fetch the published file from Hugging Face. Raises UserError where that fails."""
    contents = {name: (np.int8, (HEIGHT, WIDTH)) for name in RESOLUTIONS}
    download_hdf5(REPOSITORY, "perlin", contents, output)
