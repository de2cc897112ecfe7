"""An encoded database and its queries, opened for evaluation."""

from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
import torch

from equihash.datasets import Dataset
from equihash.devices import select_device
from equihash.errors import Remedy
from equihash.experiment import DatabaseFiles
from equihash.fingerprints import Fingerprints, expected_work
from equihash.from_config import build_loader
from equihash.provenance import check_provenance


class EncodedDatabase:
    """A database with its fingerprints and queries, all open and checked to belong together.

    Raises
    ------
    UserError
        Something is missing, unfinished or was made by something else.
    """

    def __init__(self, files: DatabaseFiles):
        self.files, self._opened, self._verification = files, {}, None
        self.labels, self.expected = expected_work(files)
        self.fingerprints = self._open(files.fingerprints, (len(self.labels.database), None))
        self.codes = self.fingerprints.values  # uint8 (N, nbytes)
        made_by = self.fingerprints.provenance
        for key in {"device", "precision", "bank"} & set(made_by):
            self.expected[key] = made_by[key], f"{files.fingerprints} is"
        self.nbytes = self.codes.shape[1]
        self.triplets = self._open(files.triplets, (len(self.labels.negative_pairs), 3, self.nbytes)).values

    def start_verification(self):
        """Let a thread read all labels meanwhile. No damage to them can do worse than wrong numbers until `verify`."""
        self._verification = ThreadPoolExecutor(1).submit(self.labels.verify)

    def verify(self):
        """Raise a `UserError` where the labels are damaged; to be called before results are written."""
        if self._verification is None:
            self.start_verification()
        self._verification.result()

    @cached_property
    def loader(self) -> Dataset:
        """The data set that makes the mosaics again, after checking that its images are those that were encoded."""
        config = self.files.experiment.load_state()["config"]
        made_by = self.fingerprints.provenance
        # another kind of device would draw other noise
        device = "cuda" if made_by.get("device") == "cuda" and torch.cuda.is_available() else "cpu"
        loader = build_loader(config, self.files.which, select_device(device))
        expected = {"bank": (loader.digest(), "the images there now are")}
        check_provenance(self.files.fingerprints, made_by, expected, Remedy("encode_database", self.files))
        return loader

    def query_codes(self, sign: str) -> np.ndarray:
        """Fingerprints of the "positive" or "negative" queries: uint8 (Q, nbytes)."""
        shape = len(getattr(self.labels, f"{sign}_queries")), self.nbytes
        return self._open(self.files.queries(sign, "fingerprints"), shape).values

    def query_logits(self, sign: str) -> np.ndarray:
        """Logits of the queries: float32 (Q, k)."""
        shape = len(getattr(self.labels, f"{sign}_queries")), 8 * self.nbytes
        return self._open(self.files.queries(sign, "logits"), shape, "logits").values

    def ground_truth(self, sign: str) -> tuple[np.ndarray, np.ndarray]:
        """The relevant items of each query, none for the negative ones: offsets int64 (Q+1), ids int64."""
        if sign == "positive":
            return self.labels.ground_truth
        return np.zeros(len(self.labels.negative_queries) + 1, dtype=np.int64), np.empty(0, dtype=np.int64)

    def _open(self, path, shape, name="codes"):
        if path not in self._opened:
            remedy = Remedy("encode_database", self.files)
            self._opened[path] = Fingerprints(path, remedy, self.expected, shape, name)
        return self._opened[path]
