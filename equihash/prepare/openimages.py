"""Banks of 180x180 images, made from a folder of pictures or downloaded.

The published ones are centre crops of Open Images (Kuznetsova et al., IJCV 2020), 100,000 in each split.
"""

import hashlib
import json
import os
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from equihash.datasets.noisy_open_images_mosaic import SIDE
from equihash.errors import UserError
from equihash.files import atomic, digest_of, exists, locked, naming, write_all
from equihash.hdf5 import create_hdf5, set_provenance
from equihash.image_files import UnreadableImage, list_image_files, read_image
from equihash.prepare.download import download_hdf5
from equihash.progress import print_above, progress_bar
from equihash.provenance import provenance

FOLDER = "data/datasets/OpenImages/hdf5"
REPOSITORY = "duchema/open-images-100k-180x180"
NB_THREADS = os.cpu_count() or 1
COPY_BLOCK = 1000  # images
SKIPPED = ("unreadable", "duplicate")  # outcomes of files
RULES = b"2"  # version of how pictures are read; a run of another version is not resumed


def bank_path(split: str) -> Path:
    """Return the path of the bank of a split."""
    return Path(FOLDER) / f"{split}.hdf5"


def prepare_open_images(source: str, output: str) -> Counter:
    """Write `images`, uint8 (N, 180, 180, 3): the centre of each picture in a folder and its sub-folders.

    A picture with a shorter side below 180 is first scaled up. Images are in the order of the sorted paths. Files that
    cannot be read (see `read_image`) are named and skipped, pictures with the same centre as an earlier one are
    skipped, and hidden files are ignored.

    An interrupted run resumes if the list of files is still the same. It tries unreadable files again, and reads
    everything again from the first that has become readable. It does not notice other pictures that have changed.

    Returns the number of files by outcome: "kept", "unreadable" and "duplicate". A `UserError` if the folder does not
    exist, is empty or has no readable picture, or a picture needs too much memory.
    """
    source, output = Path(source), Path(output)
    if not source.is_dir():
        raise UserError(f"{source} is not a folder")
    names = list_image_files(source)
    if not names:
        raise UserError(f"{source} is empty")
    with locked(output):
        return _prepare_open_images(source, output, names)


def _prepare_open_images(source, output, names):
    journal = _Journal(output, names)
    with ThreadPoolExecutor(NB_THREADS) as pool:

        def read(positions):
            """Yield the centre of each of these files, or None if it cannot be read."""
            paths = (source / names[position] for position in positions)
            for position, (image, reason) in zip(positions, _map_in_order(pool, _centre, paths)):
                if image is None:
                    print_above(f"skipped {names[position]!r}: {reason}")
                yield image

        unreadable = [position for position, outcome in enumerate(journal.outcomes) if outcome == "unreadable"]
        mended = (position for position, image in zip(unreadable, read(unreadable)) if image is not None)
        nb_done = next(mended, len(journal.outcomes))
        del journal.outcomes[nb_done:]
        with journal, progress_bar(total=len(names), initial=nb_done, unit="file") as bar:
            for image in read(range(nb_done, len(names))):
                if image is None:
                    journal.add("unreadable")
                else:
                    journal.add_image(image)
                bar.update()
    counts = Counter(outcome if outcome in SKIPPED else "kept" for outcome in journal.outcomes)
    if not counts["kept"]:
        journal.delete()
        raise UserError(f"{source} holds no readable picture")
    rows = np.memmap(journal.rows_path, np.uint8, "r", shape=(counts["kept"], SIDE, SIDE, 3))
    with atomic(output) as temporary, create_hdf5(temporary) as file:
        images = file.create_dataset("images", rows.shape, np.uint8)
        for first in range(0, len(rows), COPY_BLOCK):
            images[first : first + COPY_BLOCK] = rows[first : first + COPY_BLOCK]
        set_provenance(file, provenance(images=digest_of(journal.outcomes), **counts))
    journal.delete()
    return counts


def download_open_images(split: str, output: str) -> None:
    """Download a published split from Hugging Face; a `UserError` if that fails."""
    download_hdf5(REPOSITORY, split, {"images": (np.uint8, (SIDE, SIDE, 3))}, output)


class _Journal:
    """The outcomes of the files so far, and the images kept, in two files beside `output`.

    The journal is JSON lines: first the digest of the list of files, then for each file "unreadable", "duplicate" or
    the digest of its image. An image is written before its line, so that a crash cannot leave a line without image.
    """

    def __init__(self, output, names):
        self.rows_path = output.with_name(f".{output.name}.partial")
        self.path = output.with_name(f".{output.name}.journal")
        self.listing = hashlib.sha256(b"\0".join([RULES, *map(os.fsencode, names)])).hexdigest()
        try:
            lines = self.path.read_text().splitlines(keepends=True) if exists(self.path) else []
            lines = [json.loads(line) for line in lines if line.endswith("\n")]
        except ValueError:
            lines = []
        self.outcomes = self._still_true(lines[1:]) if lines[:1] == [self.listing] else []

    def _still_true(self, outcomes):
        """Return the outcomes up to the first image that is missing: a power cut can lose the last ones."""
        with open(self.rows_path, "a+b") as file:
            file.seek(0)
            for position, outcome in enumerate(outcomes):
                if outcome not in SKIPPED and hashlib.sha256(file.read(SIDE * SIDE * 3)).hexdigest() != outcome:
                    return outcomes[:position]
        return outcomes

    def __enter__(self):
        self.digests = {*self.outcomes} - {*SKIPPED}
        with atomic(self.path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in [self.listing, *self.outcomes]))
        self.rows_file = open(self.rows_path, "ab", buffering=0)
        self.rows_file.truncate(len(self.digests) * SIDE * SIDE * 3)
        self.file = open(self.path, "a", buffering=1)

    def __exit__(self, *exception):
        self.rows_file.close()
        self.file.close()

    def add(self, outcome):
        self.outcomes.append(outcome)
        with naming(self.path):
            self.file.write(json.dumps(outcome) + "\n")

    def add_image(self, image):
        content = image.tobytes()
        digest = hashlib.sha256(content).hexdigest()
        if digest in self.digests:
            self.add("duplicate")
        else:
            with naming(self.rows_path):
                write_all(self.rows_file, content)
            self.digests.add(digest)
            self.add(digest)

    def delete(self):
        self.rows_path.unlink()
        self.path.unlink()


def _map_in_order(pool, function, items):
    """Like `pool.map`, but with few unread results: they are large."""
    waiting = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > 4 * NB_THREADS:
            yield waiting.popleft().result()
    for future in waiting:
        yield future.result()


def _centre(path):
    """Return the centre of a picture, uint8 (180, 180, 3), and None; or None and why it cannot be read."""
    try:
        image = read_image(path, centre=SIDE)
    except UnreadableImage as error:
        return None, str(error)
    except OSError as error:
        return None, error.strerror
    except MemoryError:
        raise UserError(f"not enough memory to read {path}: free some, or take it out of the folder") from None
    return np.asarray(image if image.width == SIDE else image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)), None
