"""Noisy mosaics of two photographs."""

import functools
import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch.nn.functional import grid_sample

from equihash.datasets.color import shift_hue_and_lightness
from equihash.datasets.dataset import Dataset
from equihash.datasets.image_bank import ImageBank, bank_file
from equihash.datasets.perlin import FULL_SCALE, PerlinNoise
from equihash.errors import Remedy, UserError

SIDE = 180  # of a bank image, in pixels
OVERLAP = 90
HEIGHT, WIDTH = SIDE, 2 * SIDE - OVERLAP
# Of each resolution of the noise: the lattice period in pixels, and the divisor that turns a value into a displacement
# in units of grid_sample (2 is the width of the mosaic). With these periods, maps are correlated over the same distance
# as the published ones (by a half at about 53 and 28 pixels), and fold the image as rarely (2 or 3% of it).
RESOLUTIONS = {"resolution1": (135, 320), "resolution2": (67.5, 640)}
MAXIMUM_DISPLACEMENT = sum(FULL_SCALE / divisor for _, divisor in RESOLUTIONS.values())
# Instances made at once: on the CPU by one thread, so that their planes fit the cache; on a GPU they need 6 MB each.
SUB_BATCH = {"cpu": 4, "cuda": 128}


class NoisyOpenImagesMosaic(Dataset):
    """Two images that overlap, with noise of hue, lightness and place: uint8 (3, 180, 270).

    The noise of n instances is drawn in this order: hue (n), lightness (n), coarse displacement maps (2n), fine ones
    (2n); maps 2i and 2i+1 move instance i along x and along y.

    Parameters
    ----------
    open_images_path
        Folder of {train,valid,test}.hdf5, or one such file: `images`, uint8 (N, 180, 180, 3). See
        `prepare_data.py openimages`.
    perlin_noise_path
        HDF5 file of ready displacement maps, `resolution1` and `resolution2`, int8 (M, 180, 270): see
        `prepare_data.py perlin`. None: each map is made on the device when it is needed.
    size, which, device, seed
        See `Dataset`.
    HWC
        Make instances (180, 270, 3).
    bank_location : "auto", "device", "host" or "mapped"
        Where the images, and the ready maps, are kept: see `ImageBank`.
    """

    dtype = torch.uint8

    def __init__(
        self,
        open_images_path: str,
        perlin_noise_path: str | None = None,
        size: int | None = None,
        which: str = "train",
        device: torch.device | str = "cpu",
        HWC: bool = False,
        seed: int | None = None,
        bank_location: str = "auto",
    ):
        path = bank_file(open_images_path, which)
        remedy = Remedy("prepare_open_images", split=which)
        self.bank = ImageBank(path, "images", (SIDE, SIDE, 3), np.uint8, bank_location, device, remedy)
        if len(self.bank) < 2:
            raise UserError(f"{path} holds one image; a mosaic task needs two or more", remedy)
        super().__init__(len(self.bank), (1, 2), size, which, device, seed)
        self.layout = "HWC" if HWC else "CHW"
        self.instance_shape = (HEIGHT, WIDTH, 3) if HWC else (3, HEIGHT, WIDTH)
        if perlin_noise_path is None:
            self.noises = [PerlinNoise(HEIGHT, WIDTH, period) for period, _ in RESOLUTIONS.values()]
        else:
            self.noises = [StoredNoise(perlin_noise_path, name, bank_location, device) for name in RESOLUTIONS]
        self.banks = [self.bank, *(noise.bank for noise in self.noises if isinstance(noise, StoredNoise))]
        x = torch.linspace(-1, 1, WIDTH).expand(HEIGHT, WIDTH)
        y = torch.linspace(-1, 1, HEIGHT)[:, None].expand(HEIGHT, WIDTH)
        self.grid = torch.stack([x, y]).to(self.device)
        # No displacement leaves the mosaic.
        self.damping = ((1 - self.grid.abs()) / MAXIMUM_DISPLACEMENT).clamp_(0, 1)

    @torch.inference_mode(False)  # a mode of the caller alone, not of the threads
    def make_instances(self, labels: np.ndarray, generator: torch.Generator) -> torch.Tensor:
        labels = labels[:, 0]
        draws = self._draw(len(labels), generator)
        instances = torch.empty(len(labels), *self.instance_shape, dtype=self.dtype, device=self.device)
        channels_first = instances.permute(0, 3, 1, 2) if self.layout == "HWC" else instances
        step = SUB_BATCH[self.device.type]

        def make(first):
            some = slice(first, first + step)
            rows = labels[some]
            _, firsts, inverse = np.unique(rows @ (self.bank_size, 1), return_index=True, return_inverse=True)
            if len(firsts) < len(rows):  # the two images of a class are put together once for all its instances
                planes = put_together(self.bank[rows[firsts].ravel()])[:, torch.as_tensor(inverse, device=self.device)]
            else:
                planes = put_together(self.bank[rows.ravel()])
            # Values are in [0, 255] but for rounding: truncation needs no clipping.
            channels_first[some] = self._add_noise(planes, *(draw[some] for draw in draws))

        several = self.device.type == "cpu" and torch.get_num_threads() > 1
        map_ = _workers(torch.get_num_threads()).map if several else map
        for _ in map_(make, range(0, len(labels), step)):
            pass
        return instances

    def _draw(self, n, generator):
        """Draw the noise of a whole batch, so that it does not depend on the sub-batches: four tensors (n, ...)."""
        hue = torch.rand(n, generator=generator, device=self.device) / 8 - 1 / 16
        lightness = torch.rand(n, generator=generator, device=self.device) * 0.4 - 0.2
        maps = [noise.draw(2 * n, generator, self.device) for noise in self.noises]
        return hue, lightness, *(draws.unflatten(0, (n, 2)) for draws in maps)

    def _add_noise(self, planes, hue, lightness, *map_draws):
        """Change colour and place of `planes`, float (3, n, 180, 270): float (n, 3, 180, 270)."""
        planes = shift_hue_and_lightness(planes, hue, lightness)
        coarse, fine = (noise.maps(draws.flatten(0, 1)) for noise, draws in zip(self.noises, map_draws, strict=True))
        (_, coarse_divisor), (_, fine_divisor) = RESOLUTIONS.values()
        displacement = coarse.div_(coarse_divisor).add_(fine, alpha=1 / fine_divisor).unflatten(0, (-1, 2))
        grid = torch.addcmul(self.grid, displacement, self.damping, out=displacement).permute(0, 2, 3, 1)
        return grid_sample(planes.transpose(0, 1), grid, padding_mode="border", align_corners=False)


class StoredNoise:
    """Ready maps of one resolution, with the interface of `PerlinNoise`: a draw is the number of a map."""

    def __init__(self, path: str, name: str, bank_location: str, device: torch.device | str):
        remedy = Remedy("prepare_perlin")
        self.bank = ImageBank(path, name, (HEIGHT, WIDTH), np.int8, bank_location, device, remedy)

    def draw(
        self, nb_maps: int, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
    ) -> torch.Tensor:
        return torch.randint(0, len(self.bank), (nb_maps,), generator=generator, device=device)

    def maps(self, draws: torch.Tensor) -> torch.Tensor:
        return self.bank[draws].float()


def put_together(images: torch.Tensor) -> torch.Tensor:
    """Blend pairs of images over their overlap, from 99% of the left one to 99% of the right one.

    Images uint8 (2n, 180, 180, 3), left, right, left, right, ..., become float32 (3, n, 180, 270), whole values in
    [0, 255].
    """
    left, right = images.permute(3, 0, 1, 2).unflatten(1, (-1, 2)).unbind(2)
    planes = torch.empty(*left.shape[:-1], WIDTH, device=images.device)
    planes[..., :SIDE] = left
    planes[..., SIDE:] = right[..., OVERLAP:]
    logit = math.log(0.99 / 0.01)
    weight = torch.linspace(-logit, logit, OVERLAP, device=images.device).sigmoid()
    middle = planes[..., SIDE - OVERLAP : SIDE]
    middle.mul_(weight.flip(0)).add_(right[..., :OVERLAP] * weight).floor_()
    return planes


@functools.cache
def _workers(nb_threads):
    """Return a pool of threads, each of which computes alone.

    PyTorch's own threads wait for each other after each of the many small operations: a core that is busy with
    something else would hold up all of them each time.
    """
    pool = ThreadPoolExecutor(nb_threads, "mosaics", torch.set_num_threads, (1,))
    barrier = threading.Barrier(nb_threads)
    for _ in pool.map(lambda _: barrier.wait(), range(nb_threads)):
        pass  # all have started
    torch.set_num_threads(nb_threads)  # again, for the threads to come: a thread's number is also their default
    return pool


os.register_at_fork(after_in_child=_workers.cache_clear)  # a fork has none of the threads
