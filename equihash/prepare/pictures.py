"""Banks of whole pictures, for `equihash.datasets.PictureCopies`."""

from collections import Counter
from pathlib import Path

import numpy as np

from equihash.errors import UserError
from equihash.image_files import read_scaled
from equihash.prepare.picture_bank import files_in, write_picture_bank
from equihash.progress import print_above

FOLDER = "data/datasets/PictureCopies"
CLASSES = ("files", "folders")
SIDES = range(16, 1025)
RULES = "pictures 1"  # version of how pictures are read


def bank_path(split: str, folder: str = FOLDER) -> Path:
    """Return the path of the bank of a split, in a folder of banks."""
    return Path(folder) / f"{split}.hdf5"


def prepare_pictures(source: str, output: str, classes: str = "files", side: int = 128) -> Counter:
    """Write the bank `output` of all pictures in a folder and its sub-folders: `write_picture_bank`.

    Each picture is scaled to a square, whatever its shape. Hidden files are ignored.

    Parameters
    ----------
    source, output
        The folder, and the HDF5 file.
    classes : "files" or "folders"
        A class is one picture, or all those in one sub-folder of `source`, its own sub-folders included. With
        "folders", pictures in no sub-folder are named and skipped, and the file has `starts`, int64 (C + 1,): the
        images of class c are images[starts[c]:starts[c + 1]].
    side : int
        Of an image, in pixels.

    Returns
    -------
    Counter
        Number of files by outcome: "kept", "unreadable" and "duplicate".

    Raises
    ------
    UserError
        The folder does not exist, is empty or has no readable picture, `side` is not 16 to 1024, or a picture needs
        too much memory.
    """
    if side not in SIDES:
        raise UserError(f"side must be {SIDES[0]} to {SIDES[-1]} pixels, not {side}")
    source = Path(source)
    names = files_in(source)
    if classes == "folders":
        for name in (name for name in names if "/" not in name):
            print_above(f"skipped {name!r}: it is in no sub-folder of {source}")
        names = [name for name in names if "/" in name]
        if not names:
            raise UserError(f"{source} has no pictures in sub-folders, each of which would be a class")

    def starts(kept):
        """Of each class, the first image; and the number of images. A folder's files follow each other."""
        folders = np.array([name.split("/")[0] for name in kept])
        changes = 1 + np.flatnonzero(folders[1:] != folders[:-1])
        return {"starts": np.array([0, *changes, len(kept)], np.int64)}

    more = {"more": starts} if classes == "folders" else {}
    return write_picture_bank(
        source, names, Path(output), side, lambda path: read_scaled(path, side)[0], f"{RULES} {side}", **more
    )
