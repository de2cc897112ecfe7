"""An experiment: one row of one model of one task, with its configuration and its files.

data/experiments/TASK/MODEL/NAME/current/state.pth
                                         {which}_{database}/database_fingerprints.hdf5 ...
data/experiments/TASK/MODEL/NAME/checkpointSTEP/...
data/labels/TASK/DATABASE.hdf5
"""

from collections.abc import Iterable
from pathlib import Path

from equihash.config import load_config
from equihash.errors import Remedy
from equihash.paths import DATA, labels_path
from equihash.state import load_state


class Experiment:
    """Where everything of one experiment lies.

    Parameters
    ----------
    task, model, variant, variant_id, overrides
        See `equihash.config.load_config`.
    checkpoint : int or None
        Step of a checkpoint; None: the current state.

    Attributes
    ----------
    config : dict
    folder : Path
        Holds state.pth.
    """

    def __init__(
        self,
        task: str,
        model: str,
        variant: str | None = None,
        variant_id: int | None = None,
        overrides: Iterable[str] = (),
        checkpoint: int | None = None,
    ):
        self.task, self.model, self.variant, self.variant_id = task, model, variant, variant_id
        self.config = load_config(task, model, variant, variant_id, overrides)
        self.home = DATA / "experiments" / task / model / self.config["name"]
        self.folder = self.at(checkpoint)
        self.checkpoint = checkpoint

    def at(self, checkpoint: int | None) -> Path:
        """Folder of the state after step `checkpoint`; None: of the current one."""
        return self.home / ("current" if checkpoint is None else f"checkpoint{checkpoint}")

    @property
    def state_path(self) -> Path:
        return self.folder / "state.pth"

    def load_state(self) -> dict:
        """Read the state; see `equihash.state.load_state`."""
        return load_state(self.state_path, Remedy("train", self))

    def __str__(self) -> str:
        return f"{self.task} {self.model} {self.config['name']}"


class DatabaseFiles:
    """The files of one database encoded by one experiment.

    Parameters
    ----------
    experiment : Experiment
    database : str
        Name of the labels, data/labels/TASK/NAME.hdf5.
    which : "train", "valid" or "test"
    """

    def __init__(self, experiment: Experiment, database: str, which: str = "test"):
        self.experiment, self.database, self.which = experiment, database, which
        self.folder = experiment.folder / f"{which}_{database}"
        self.labels = labels_path(experiment.task, database)
        self.fingerprints = self.folder / "database_fingerprints.hdf5"
        self.triplets = self.folder / "hinge_triplets_fingerprints.hdf5"
        self.results = self.folder / "results.json"

    def shard(self, job_id: int, nb_jobs: int) -> Path:
        """Fingerprints of one job's share of the database."""
        return self.folder / f"database_fingerprints_{job_id}_{nb_jobs}.hdf5"

    def index(self, shard: int = 0, nb_shards: int = 1) -> Path:
        """The inverted index, or one shard of it."""
        return self.folder / ("inverted_index.bin" if nb_shards == 1 else f"inverted_index_{shard}_{nb_shards}.bin")

    def counts(self, shard: int, nb_shards: int) -> Path:
        """What was counted in one shard of the index."""
        return self.folder / f"counts_{shard}_{nb_shards}.hdf5"

    def queries(self, sign: str, content: str) -> Path:
        """`sign` "positive" or "negative", `content` "fingerprints" or "logits"."""
        return self.folder / f"{sign}_queries_{content}.hdf5"
