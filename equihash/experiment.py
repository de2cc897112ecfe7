"""An experiment: one row of one model of one task, with its configuration and its files.

data/experiments/TASK/MODEL/NAME/current/state.pth
                                         {which}_{database}/database_fingerprints.hdf5 ...
data/experiments/TASK/MODEL/NAME/checkpointSTEP/...
data/labels/TASK/DATABASE.hdf5
"""

from equihash.config import load_config, read_variants
from equihash.errors import UserError
from equihash.paths import DATA, labels_path


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

    def __init__(self, task, model, variant=None, variant_id=None, overrides=(), checkpoint=None):
        self.task, self.model, self.variant, self.variant_id = task, model, variant, variant_id
        self.config = load_config(task, model, variant, variant_id, overrides)
        self.home = DATA / "experiments" / task / model / self.config["name"]
        self.folder = self.at(checkpoint)
        self.checkpoint = checkpoint

    def at(self, checkpoint):
        """Folder of the state after step `checkpoint`; None: of the current one."""
        return self.home / ("current" if checkpoint is None else f"checkpoint{checkpoint}")

    @property
    def state_path(self):
        return self.folder / "state.pth"

    def command(self, script, database):
        """The command line that runs `script` on a database encoded by this experiment, for messages."""
        parts = ["python", script, self.task, database, self.model]
        if self.variant is not None:
            parts += ["-v", self.variant, "-i", str(self.variant_id)]
        if self.checkpoint is not None:
            parts += ["-l", str(self.checkpoint)]
        return " ".join(parts)

    def training_command(self):
        """The command line that makes the state, for messages."""
        parts = ["python train.py", self.task, self.model]
        if self.variant is not None:
            parts += ["-v", self.variant, "-i", str(self.variant_id)]
        if self.checkpoint is not None:
            parts += ["-p", str(self.checkpoint)]
        return " ".join(parts)

    def __str__(self):
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

    def __init__(self, experiment, database, which="test"):
        self.experiment, self.database, self.which = experiment, database, which
        self.folder = experiment.folder / f"{which}_{database}"
        self.labels = labels_path(experiment.task, database)
        self.fingerprints = self.folder / "database_fingerprints.hdf5"
        self.triplets = self.folder / "hinge_triplets_fingerprints.hdf5"
        self.results = self.folder / "results.json"

    def shard(self, job_id, nb_jobs):
        """Fingerprints of one job's share of the database."""
        return self.folder / f"database_fingerprints_{job_id}_{nb_jobs}.hdf5"

    def index(self, shard=0, nb_shards=1):
        """The inverted index, or one shard of it."""
        return self.folder / ("inverted_index.bin" if nb_shards == 1 else f"inverted_index_{shard}_{nb_shards}.bin")

    def counts(self, shard, nb_shards):
        """What was counted in one shard of the index."""
        return self.folder / f"counts_{shard}_{nb_shards}.hdf5"

    def queries(self, sign, content):
        """`sign` "positive" or "negative", `content` "fingerprints" or "logits"."""
        return self.folder / f"{sign}_queries_{content}.hdf5"

    def command(self, script, shard=0, nb_shards=1):
        """The command line that runs `script` on this database, or a shard of its index, for messages."""
        which = "" if self.which == "test" else f" -w {self.which}"
        part = "" if nb_shards == 1 else f" --shard {shard} --nb_shards {nb_shards}"
        return self.experiment.command(script, self.database) + which + part


def add_experiment_arguments(parser, database=True, all_rows=False):
    """Add the arguments that choose an experiment (and a database encoded by it) to an argparse parser."""
    parser.add_argument("task", help="a folder of configs/, e.g. FastMnistMosaic")
    if database:
        parser.add_argument("database_name", help="labels made by generate_labels.py")
    parser.add_argument("model", help="a folder of configs/TASK/, e.g. ShannonHamming")
    parser.add_argument("-v", "--variant", metavar="NAME", help="variant table configs/TASK/MODEL/NAME.json")
    row_help = "row of the variant table, from 0" + (", or all" if all_rows else "")
    parser.add_argument("-i", "--variant_id", type=_row_or_all if all_rows else int, metavar="N", help=row_help)
    if database:
        parser.add_argument("-l", "--load_checkpoint", type=int, metavar="STEP", help="use this checkpoint")
        parser.add_argument(
            "-w", "--which", choices=("train", "valid", "test"), default="test", help="split of the bank"
        )


def add_results_arguments(parser):
    """Add the arguments that choose the results of a database: task, database_name, models, --variant."""
    parser.add_argument("task", help="a folder of configs/, e.g. FastMnistMosaic")
    parser.add_argument("database_name", help="labels made by generate_labels.py")
    parser.add_argument("models", nargs="*", metavar="model", help="folders of configs/TASK/ (default: all)")
    parser.add_argument("-v", "--variant", metavar="NAME", help="only this variant table (default: all with results)")


def add_shard_arguments(parser):
    """Add `--shard` and `--nb_shards`, which choose a part of an index, to an argparse parser."""
    parser.add_argument("--shard", type=int, metavar="N", help="only this shard of the index, from 0")
    parser.add_argument("--nb_shards", type=int, default=1, metavar="N", help="shards that the index is cut into")


def check_shard_arguments(args):
    if args.nb_shards < 1:
        raise UserError(f"--nb_shards must be at least 1, not {args.nb_shards}")
    if not 0 <= (args.shard or 0) < args.nb_shards:
        raise UserError(f"--shard must be 0 to {args.nb_shards - 1} (--nb_shards {args.nb_shards}), not {args.shard}")


def experiments_from_arguments(args, overrides=(), checkpoint=None):
    """Return the experiments that the arguments choose: one, or with `-i all` every row of the table."""
    rows = [args.variant_id]
    if args.variant_id == "all":
        if args.variant is None:
            raise UserError("-i all means every row of a variant table: name the table with -v/--variant")
        rows = range(len(read_variants(args.task, args.model, args.variant)[1]))
    return [Experiment(args.task, args.model, args.variant, row, overrides, checkpoint) for row in rows]


def database_files_from_arguments(args):
    """Return the `DatabaseFiles` of the one experiment and database that the arguments choose."""
    (experiment,) = experiments_from_arguments(args, checkpoint=args.load_checkpoint)
    return DatabaseFiles(experiment, args.database_name, args.which)


def _row_or_all(text):
    return text if text == "all" else int(text)
