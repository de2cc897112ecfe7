"""More pictures to train on, from few photos: each as it is, its four quarters, and all five mirrored, as JPEG files.

python benchmarks/cut_photos.py SOURCE FOLDER
"""

import argparse
import sys
from functools import partial
from multiprocessing import Pool
from pathlib import Path

from PIL import ImageOps

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from equihash.command_line import run  # noqa: E402
from equihash.copies.collection import SUFFIXES  # noqa: E402
from equihash.image_files import list_image_files, read_image  # noqa: E402
from equihash.progress import progress_bar  # noqa: E402


def cut(task, folder):
    number, path = task
    image = read_image(path)
    middle, centre = image.width // 2, image.height // 2
    columns, rows = ((0, middle), (middle, image.width)), ((0, centre), (centre, image.height))
    pieces = [image] + [image.crop((left, top, right, bottom)) for left, right in columns for top, bottom in rows]
    for place, piece in enumerate(pieces):
        piece.save(folder / f"{number:06}-{place}.jpg", quality=92)
        ImageOps.mirror(piece).save(folder / f"{number:06}-{place}-mirrored.jpg", quality=92)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    names = [name for name in list_image_files(arguments.source) if name.lower().endswith(SUFFIXES)]
    if not names:
        parser.error(f"{arguments.source} has no pictures")
    paths = [arguments.source / name for name in names]
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with Pool() as pool:
        work = pool.imap_unordered(partial(cut, folder=arguments.folder), enumerate(paths), 16)
        for _ in progress_bar(work, total=len(paths), unit="photo"):
            pass


if __name__ == "__main__":
    run(main)
