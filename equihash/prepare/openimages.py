"""Banks of 180x180 images, made from a folder of pictures or downloaded.

The published ones are centre crops of Open Images (Kuznetsova et al., IJCV 2020), 100,000 in each split.
"""

from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from equihash.datasets.noisy_open_images_mosaic import SIDE
from equihash.image_files import read_image
from equihash.prepare.download import download_hdf5
from equihash.prepare.picture_bank import files_in, write_picture_bank

FOLDER = "data/datasets/OpenImages/hdf5"
REPOSITORY = "duchema/open-images-100k-180x180"
RULES = "2"  # version of how pictures are read


def bank_path(split: str) -> Path:
    """Return the path of the bank of a split."""
    return Path(FOLDER) / f"{split}.hdf5"


def prepare_open_images(source: str, output: str) -> Counter:
    """Write the bank `output` of the centres of all pictures in a folder and its sub-folders: `write_picture_bank`.

    A picture with a shorter side below 180 is first scaled up. Images are in the order of the sorted paths; hidden
    files are ignored.

    Returns the number of files by outcome: "kept", "unreadable" and "duplicate". A `UserError` if the folder does not
    exist, is empty or has no readable picture, or a picture needs too much memory.
    """
    source = Path(source)
    return write_picture_bank(source, files_in(source), Path(output), SIDE, _centre, RULES)


def download_open_images(split: str, output: str) -> None:
    """Download a published split from Hugging Face; a `UserError` if that fails."""
    download_hdf5(REPOSITORY, split, {"images": (np.uint8, (SIDE, SIDE, 3))}, output)


def _centre(path):
    """Return the centre of a picture, uint8 (180, 180, 3)."""
    image = read_image(path, centre=SIDE)
    return np.asarray(image if image.width == SIDE else image.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
