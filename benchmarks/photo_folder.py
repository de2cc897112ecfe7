"""A folder of photos with edited copies among them, for find_copies.py and found_copies.py.

python benchmarks/photo_folder.py FOLDER --photos A B --others C --nb_pictures 3000 --nb_copies 300

Copies are made of photos of A and B by two edits each, as `prepare_data.py dead_leaves` makes them. A network is judged
fairly if it was not trained on these; the others, as many as are needed, only fill the folder.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from equihash.command_line import run  # noqa: E402
from equihash.copies.collection import SUFFIXES  # noqa: E402
from equihash.image_files import list_image_files, read_image  # noqa: E402
from equihash.prepare.dead_leaves import edited_copy  # noqa: E402


def photos_of(folders, rng):
    """The paths of all pictures, shuffled."""
    paths = [folder / name for folder in folders for name in list_image_files(folder)]
    paths = [path for path in paths if path.name.lower().endswith(SUFFIXES)]
    return [paths[place] for place in rng.permutation(len(paths))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=Path, nargs="+", required=True, metavar="FOLDER")
    parser.add_argument("--others", type=Path, nargs="+", default=[], metavar="FOLDER")
    parser.add_argument("--nb_pictures", type=int, default=3000, metavar="N", help="without the copies")
    parser.add_argument("--nb_copies", type=int, default=300, metavar="N")
    parser.add_argument("-s", "--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    photos = photos_of(arguments.photos, rng)
    if len(photos) < arguments.nb_copies:
        parser.error(f"there are {len(photos)} photos; --nb_copies must be that or less")
    if arguments.folder.exists():
        parser.error(f"{arguments.folder} exists already")
    (arguments.folder / "copies").mkdir(parents=True)
    for number, path in enumerate((photos + photos_of(arguments.others, rng))[: arguments.nb_pictures]):
        name = f"{number:06}.jpg"
        image = read_image(path)
        image.save(arguments.folder / name, quality=95)
        if number < arguments.nb_copies:
            copy = edited_copy(image, rng)
            copy.save(arguments.folder / "copies" / name, quality=int(rng.integers(40, 90)))


if __name__ == "__main__":
    run(main)
