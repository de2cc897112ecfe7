"""Single queries of an indexed database: by item, by class or by picture."""

import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from equihash.class_numbers import labels_to_class_numbers
from equihash.datasets import Dataset
from equihash.datasets.procedural import CHUNK_SIZE, ENCODING_SEED, ProceduralDatabase
from equihash.devices import select_device
from equihash.errors import Remedy, UserError
from equihash.experiment import DatabaseFiles
from equihash.fingerprints import open_index
from equihash.from_config import build_loader, check_instances
from equihash.image_files import UnreadableImage, read_image
from equihash.inference import compute_logits, rows_at_once
from equihash.labels import members
from equihash.provenance import check_provenance
from equihash.search import probe_codes
from equihash.state import load_network

MOST_SCANNED = 10_000_000  # items whose labels are read to count what was missed


@dataclass
class Query:
    """A query and what was found.

    Attributes
    ----------
    label : integer array (h, w) or None
        None: a picture, of unknown class.
    logits : float32 (k,)
    found : int64 array
        Items, ascending.
    relevant : bool array or None
        Which of them are of the query's class.
    missed : int64 array or None
        Items of the query's class that were not found; None where that is unknown.
    """

    name: str
    instance: torch.Tensor
    label: np.ndarray | None
    logits: torch.Tensor
    found: np.ndarray | None = None
    relevant: np.ndarray | None = None
    missed: np.ndarray | None = None

    def relevance(self, row: int) -> str:
        """Whether the item found at `row` is "relevant" or "irrelevant"; "unknown" for a picture."""
        if self.relevant is None:
            return "unknown"
        return "relevant" if self.relevant[row] else "irrelevant"


class Searcher:
    """A database that is open for queries; opening it takes no longer for a larger one.

    With `device` auto, queries are encoded on the kind of device that the database was encoded on, if there is one.

    Attributes
    ----------
    milliseconds
        What making the queries' mosaics ("mosaics"), the network ("network") and the lookups ("lookups") took.

    Raises
    ------
    UserError
        Something is missing, or files do not belong together.
    """

    def __init__(self, files: DatabaseFiles, device: str = "auto"):
        self.index, self.labels = open_index(files)
        made_by = self.index.metadata.get("fingerprints", {})
        if device == "auto" and made_by.get("device") == "cpu":
            device = "cpu"
        self.device = select_device(device)
        #: Whether items are the very ones that were encoded: another kind of device draws other noise.
        self.same_noise = made_by.get("device", self.device.type) == self.device.type
        self.precision = getattr(torch, made_by.get("precision", "float32"))
        state = files.experiment.load_state()
        config = state["config"]
        if "bank_location" in config["loader_kwargs"]:
            config["loader_kwargs"]["bank_location"] = "mapped"  # a few images are needed, not the whole bank
        self.loader = build_loader(config, files.which, self.device)
        expected = {"bank": (self.loader.digest(), "the images there now are")}
        check_provenance(files.index(), made_by, expected, Remedy("encode_database and build_index", files))
        self.network = load_network(state, files.experiment.state_path, self.device)
        check_instances(self.network, self.loader)
        self.items = ProceduralDatabase(self.labels.database, self.loader, ENCODING_SEED)
        self.milliseconds = dict.fromkeys(("mosaics", "network", "lookups"), 0.0)

    def by_id(self, item: int) -> Query:
        """The query for an item of the database: the same mosaic with the same noise, encoded in the same way."""
        if not 0 <= item < len(self.items):
            raise UserError(f"no item {item}: the database has items 0 to {len(self.items) - 1}")
        with self._timed("mosaics"):
            chunk = self.items.chunk(item // CHUNK_SIZE)
        # with the neighbours that it was encoded with: batches of another size are rounded differently
        row, step = item % CHUNK_SIZE, rows_at_once(chunk)
        first = row // step * step
        logits = self._logits(chunk[first : first + step])[row - first]
        return Query(f"item {item}", chunk[row], np.asarray(self.labels.database[item]), logits)

    def by_label(self, numbers: list[int]) -> Query:
        """The query for a new instance of a class, given as bank image numbers, row by row."""
        shape, bank_size = self.labels.mosaic_shape, self.labels.bank_size
        text = f"class {' '.join(map(str, numbers))}"
        if len(numbers) != np.prod(shape):
            raise UserError(f"{text}: a mosaic has {shape[0]} x {shape[1]} images, so {np.prod(shape)} numbers")
        if not all(0 <= number < bank_size for number in numbers):
            raise UserError(f"{text}: the images of the bank are 0 to {bank_size - 1}")
        label = np.array(numbers).reshape(shape)
        with self._timed("mosaics"):
            instance = ProceduralDatabase(label[None], self.loader, ENCODING_SEED)[0]
        return Query(text, instance, label, self._logits(instance[None])[0])

    def by_picture(self, path: Path) -> Query:
        """The query for a picture file, of any format, that has the size of a mosaic."""
        instance = read_picture(path, self.loader)
        return Query(f"picture {path}", instance, None, self._logits(instance[None])[0])

    def search(self, queries: list[Query], nb_lookups: int):
        """Fill in what each of some queries finds by multi-probing, and whether it is relevant."""
        nb_bits = 8 * self.index.nbytes_per_code
        if not 1 <= nb_lookups <= 2 ** min(nb_bits, 24):
            raise UserError(f"nb_lookups must be 1 to {2 ** min(nb_bits, 24)}, not {nb_lookups}")
        logits = torch.stack([query.logits for query in queries])
        if not logits.isfinite().all():
            raise UserError("the network gave logits that are not finite")
        with self._timed("lookups"):
            probes = probe_codes(logits, nb_lookups)
            offsets, ids = self.index.lookup(probes.reshape(-1, probes.shape[-1]))
        bounds = offsets[::nb_lookups]
        for query, first, last in zip(queries, bounds, bounds[1:]):
            query.found = np.sort(ids[first:last])
            if query.label is not None:
                query.relevant = (self.labels.database[query.found] == query.label).all(axis=(1, 2))
        known = [query for query in queries if query.label is not None]
        if known and len(self.items) <= MOST_SCANNED:
            numbers = labels_to_class_numbers(np.stack([query.label for query in known]), self.labels.bank_size)
            offsets, ids = members(self.labels.database, self.labels.bank_size, numbers)
            for query, first, last in zip(known, offsets, offsets[1:]):
                query.missed = np.setdiff1d(ids[first:last], query.found)

    def _logits(self, instances):
        with self._timed("network"):
            return compute_logits(self.network, instances, self.precision).cpu()

    @contextmanager
    def _timed(self, what):
        start = time.perf_counter()
        yield
        self.milliseconds[what] += 1000 * (time.perf_counter() - start)


def read_picture(path: Path, loader: Dataset) -> torch.Tensor:
    """Read a picture file as an instance of a data set, without noise.

    Raises
    ------
    UserError
        The file is missing, cannot be read (see `read_image`), or is of another size.
    """
    try:
        pixels = np.array(read_image(path, "RGB" if "C" in loader.layout else "L"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except UnreadableImage as error:
        raise UserError(f"{path} cannot be read as a picture: {error}") from None
    height, width = loader.picture_shape
    if pixels.shape[:2] != (height, width):
        found = f"{pixels.shape[1]} x {pixels.shape[0]}"
        raise UserError(f"{path} has {found} pixels, and a mosaic {width} x {height}: cut or resize it to that")
    return loader.from_picture(pixels)
