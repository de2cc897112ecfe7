"""Banks of square images from a folder of pictures, by runs that can be interrupted."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from equihash.errors import UserError
from equihash.files import atomic, digest_of, exists, locked, naming, write_all
from equihash.hdf5 import create_hdf5, set_provenance
from equihash.image_files import UnreadableImage, list_image_files
from equihash.progress import print_above, progress_bar
from equihash.provenance import provenance
from equihash.threads import NB_THREADS, map_in_order

COPY_BLOCK = 1000  # images
SKIPPED = ("unreadable", "duplicate")  # outcomes of files


def files_in(source: Path) -> list[str]:
    """Return `list_image_files` of a folder; a `UserError` if it does not exist or is empty."""
    if not source.is_dir():
        raise UserError(f"{source} is not a folder")
    names = list_image_files(source)
    if not names:
        raise UserError(f"{source} is empty")
    return names


def write_picture_bank(
    source: Path,
    names: list[str],
    output: Path,
    side: int,
    read: Callable[[Path], np.ndarray],
    rules: str,
    more: Callable[[list[str]], dict[str, np.ndarray]] = lambda kept: {},
) -> Counter:
    """Write `images`, uint8 (N, side, side, 3), of picture files, in their order.

    Files that cannot be read are named and skipped, those with the same image as an earlier one are skipped.

    An interrupted run resumes if the list of files is still the same. It tries unreadable files again, and reads
    everything again from the first that has become readable. It does not notice other pictures that have changed.

    Parameters
    ----------
    source : Path
    names : list of str
        Paths of the files, relative to `source`.
    output : Path
        The HDF5 file.
    side : int
    read : callable
        Makes the image, uint8 (side, side, 3), of a path; the errors are those of `equihash.image_files.read_image`.
    rules : str
        What `read` does, its version included: a run with other rules is not resumed.
    more : callable
        Makes further datasets, by name, of the names of the files that were kept.

    Returns
    -------
    Counter
        Number of files by outcome: "kept", "unreadable" and "duplicate".

    Raises
    ------
    UserError
        `source` has no readable picture, or a picture needs too much memory.
    """
    with locked(output):
        journal = _Journal(output, names, side, rules)
        _read_all(source, names, journal, read)
        counts = Counter(outcome if outcome in SKIPPED else "kept" for outcome in journal.outcomes)
        if not counts["kept"]:
            journal.delete()
            raise UserError(f"{source} holds no readable picture")
        kept = [name for name, outcome in zip(names, journal.outcomes) if outcome not in SKIPPED]
        rows = np.memmap(journal.rows_path, np.uint8, "r", shape=(counts["kept"], side, side, 3))
        with atomic(output) as temporary, create_hdf5(temporary) as file:
            images = file.create_dataset("images", rows.shape, np.uint8)
            for first in range(0, len(rows), COPY_BLOCK):
                images[first : first + COPY_BLOCK] = rows[first : first + COPY_BLOCK]
            for name, values in more(kept).items():
                file[name] = values
            set_provenance(file, provenance(images=digest_of(journal.outcomes), **counts))
        journal.delete()
        return counts


def _read_all(source, names, journal, read):
    """Bring the journal to the end of the files."""
    with ThreadPoolExecutor(NB_THREADS) as pool:

        def images(positions):
            """Yield the image of each of these files, or None if it cannot be read."""
            results = map_in_order(
                pool, lambda position: _image(read, source / names[position]), positions, 4 * NB_THREADS
            )
            for position, (image, reason) in zip(positions, results):
                if image is None:
                    print_above(f"skipped {names[position]!r}: {reason}")
                yield image

        unreadable = [position for position, outcome in enumerate(journal.outcomes) if outcome == "unreadable"]
        mended = (position for position, image in zip(unreadable, images(unreadable)) if image is not None)
        nb_done = next(mended, len(journal.outcomes))
        del journal.outcomes[nb_done:]
        with journal, progress_bar(total=len(names), initial=nb_done, unit="file") as bar:
            for image in images(range(nb_done, len(names))):
                if image is None:
                    journal.add("unreadable")
                else:
                    journal.add_image(image)
                bar.update()


class _Journal:
    """The outcomes of the files so far, and the images kept, in two files beside `output`.

    The journal is JSON lines: first the digest of the list of files, then for each file "unreadable", "duplicate" or
    the digest of its image. An image is written before its line, so that a crash cannot leave a line without image.
    """

    def __init__(self, output, names, side, rules):
        self.image_bytes = side * side * 3
        self.rows_path = output.with_name(f".{output.name}.partial")
        self.path = output.with_name(f".{output.name}.journal")
        self.listing = hashlib.sha256(b"\0".join([rules.encode(), *map(os.fsencode, names)])).hexdigest()
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
                if outcome not in SKIPPED and hashlib.sha256(file.read(self.image_bytes)).hexdigest() != outcome:
                    return outcomes[:position]
        return outcomes

    def __enter__(self):
        self.digests = {*self.outcomes} - {*SKIPPED}
        with atomic(self.path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in [self.listing, *self.outcomes]))
        self.rows_file = open(self.rows_path, "ab", buffering=0)
        self.rows_file.truncate(len(self.digests) * self.image_bytes)
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


def _image(read, path):
    """Return the image of a file and None, or None and why it cannot be read."""
    try:
        return read(path), None
    except UnreadableImage as error:
        return None, str(error)
    except OSError as error:
        return None, error.strerror
    except MemoryError:
        raise UserError(f"not enough memory to read {path}: free some, or take it out of the folder") from None
