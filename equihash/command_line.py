"""The command line: the arguments that scripts share, the command of a `Remedy`, and errors as one line.

What imports PyTorch is imported where it is needed: that takes seconds, and generate_labels.py does without.
"""

import argparse
import io
import os
import shlex
import signal
import sys
import traceback
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from equihash.errors import Remedy, UserError, is_out_of_memory
from equihash.files import exists

if TYPE_CHECKING:
    from equihash.experiment import DatabaseFiles, Experiment

# --- Arguments


def argument_parser(description: str) -> ArgumentParser:
    """Make the parser of a script, whose description is its docstring."""
    return ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_experiment_arguments(parser: ArgumentParser, database: bool = True, all_rows: bool = False) -> None:
    """Add the arguments that choose an experiment, and a database encoded by it."""
    parser.add_argument("task", help="a folder of configs/, e.g. FastMnistMosaic")
    if database:
        parser.add_argument("database_name", help="labels made by generate_labels.py")
    parser.add_argument("model", help="a folder of configs/TASK/, e.g. ShannonHamming")
    parser.add_argument("-v", "--variant", metavar="NAME", help="variant table configs/TASK/MODEL/NAME.json")
    row_help = "row of the variant table, from 0" + (", or all" if all_rows else "")
    parser.add_argument("-i", "--variant_id", type=_row_or_all if all_rows else int, metavar="N", help=row_help)
    if database:
        parser.add_argument("-l", "--load_checkpoint", type=int, metavar="STEP", help="use this checkpoint")
        add_which_argument(parser)


def add_which_argument(parser: ArgumentParser) -> None:
    """Add `--which`, the split that a database is made of."""
    parser.add_argument(
        "-w",
        "--which",
        choices=("train", "valid", "test"),
        default="test",
        help="split of the images that the database is made of (default: test)",
    )


def experiments_from_arguments(
    args: Namespace, overrides: tuple | list = (), checkpoint: int | None = None
) -> "list[Experiment]":
    """Return the experiments that the arguments choose: one, or with `-i all` every row of the table."""
    from equihash.config import read_variants
    from equihash.experiment import Experiment

    rows = [args.variant_id]
    if args.variant_id == "all":
        if args.variant is None:
            raise UserError("-i all means every row of a variant table: name the table with -v/--variant")
        rows = range(len(read_variants(args.task, args.model, args.variant)[1]))
    return [Experiment(args.task, args.model, args.variant, row, overrides, checkpoint) for row in rows]


def database_files_from_arguments(args: Namespace) -> "DatabaseFiles":
    """Return the `DatabaseFiles` of the one experiment and database that the arguments choose."""
    from equihash.experiment import DatabaseFiles

    (experiment,) = experiments_from_arguments(args, checkpoint=args.load_checkpoint)
    return DatabaseFiles(experiment, args.database_name, args.which)


def add_results_arguments(parser: ArgumentParser) -> None:
    """Add the arguments that choose the results of a database: task, database_name, models, --variant."""
    parser.add_argument("task", help="a folder of configs/, e.g. FastMnistMosaic")
    parser.add_argument("database_name", help="labels made by generate_labels.py")
    parser.add_argument("models", nargs="*", default=[], metavar="model", help="folder of configs/TASK/ (default: all)")
    parser.add_argument("-v", "--variant", metavar="NAME", help="only this variant table (default: all with results)")
    add_which_argument(parser)


def add_shard_arguments(parser: ArgumentParser) -> None:
    """Add the arguments that choose a part of an index."""
    parser.add_argument("--shard", type=int, metavar="N", help="only this shard of the index, from 0")
    parser.add_argument("--nb_shards", type=int, default=1, metavar="N", help="shards that the index is cut into")


def check_shard_arguments(args: Namespace) -> None:
    if args.nb_shards < 1:
        raise UserError(f"--nb_shards must be at least 1, not {args.nb_shards}")
    if not 0 <= (args.shard or 0) < args.nb_shards:
        raise UserError(f"--shard must be 0 to {args.nb_shards - 1} (--nb_shards {args.nb_shards}), not {args.shard}")


def add_device_argument(parser: ArgumentParser) -> None:
    parser.add_argument("-d", "--device", default="auto", help="auto, cpu, cuda or cuda:INDEX (default: auto)")


def add_precision_argument(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "auto"),
        default="float32",
        help="what the network computes in; auto: bfloat16 where the hardware has it (default: float32)",
    )


def add_memory_argument(parser: ArgumentParser) -> None:
    """Add `--memory_limit`, whose value is in bytes."""
    parser.add_argument(
        "--memory_limit",
        type=_size,
        default="8G",
        metavar="SIZE",
        help="memory to build the index in, e.g. 512M or 16G: less means reading the fingerprints more often",
    )


def _size(text):
    """Turn "512M" or "16G" into bytes."""
    number, unit = text[:-1], text[-1:].upper()
    if unit not in ("M", "G") or not number.isdecimal() or not int(number):
        raise argparse.ArgumentTypeError(f"a size is such as 512M or 16G, not {text!r}")
    return int(number) << {"M": 20, "G": 30}[unit]


def _row_or_all(text):
    try:
        return text if text == "all" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a row is a number or all, not {text!r}") from None


# --- Commands


def command(remedy: Remedy) -> str:
    """Return the command line that does what a `Remedy` says.

    An argument `name` of the remedy is the option `--name`: with its value or values, or, for True, with none; False is
    `--no_name`. The argument `variant_id` goes before the experiment's own.
    """
    script, *words = SCRIPTS[remedy.stage].split()
    arguments = dict(remedy.arguments)
    words = ["python", script, *_words_of(remedy.of, arguments.pop("variant_id", None)), *words]
    for name, value in arguments.items():
        words += [f"--no_{name}"] if value is False else [f"--{name}"]
        if not isinstance(value, bool):
            words += value if isinstance(value, (list, tuple)) else [value]
    return shlex.join(map(str, words))


SCRIPTS = {
    "train": "train.py",
    "generate_labels": "generate_labels.py",
    "encode_database": "encode.py",
    "encode_database and build_index": "encode.py --build_index",
    "merge_shards": "merge.py",
    "build_index": "build_index.py",
    "count_shard": "evaluate_binary_equihash.py",
    "report": "evaluate_binary_equihash.py",
    "prepare_mnist": "prepare_data.py mnist",
    "prepare_open_images": "prepare_data.py openimages --source FOLDER",
    "prepare_pictures": "prepare_data.py pictures --source FOLDER",
    "prepare_perlin": "prepare_data.py perlin",
}


def _words_of(work, variant_id):
    """The words that say what a script works on."""
    if work is None:
        return []
    if isinstance(work, Path):  # of labels
        sizes = "-b ... -d ... -p ... -n ... -t ... -m H W".split()  # noqa: SIM905
        return [work.parent.name, work.stem, *sizes, *["--force"] * exists(work)]
    experiment = getattr(work, "experiment", work)
    of_database = experiment is not work
    words = [experiment.task, work.database, experiment.model] if of_database else [experiment.task, experiment.model]
    if experiment.variant is not None:
        words += ["-v", experiment.variant, "-i", experiment.variant_id if variant_id is None else variant_id]
    if experiment.checkpoint is not None:
        words += ["-l" if of_database else "-p", experiment.checkpoint]
    if of_database and work.which != "test":
        words += ["-w", work.which]
    return words


# --- Errors


def run(main: Callable[[], None], memory: str = "") -> None:
    """Run a script's `main`, and exit; what the user can mend becomes one line on stderr and exit code 2.

    From then on, stdout replaces what the terminal cannot show.

    Parameters
    ----------
    main : callable
    memory : str
        What makes it need less memory, for the message where there is too little.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names may have characters that the terminal cannot show
    try:
        main()
        print(end="", flush=True)  # here, where an error can be reported
    except UserError as error:
        remedy = "" if error.remedy is None else f": run {command(error.remedy)}"
        sys.exit(_report(error.message + remedy, 2))
    except BrokenPipeError:  # nobody reads the output any more: `| head`
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:  # the disk is full, the folder read-only, ...
        if error.errno is None:  # not of the system: a mistake in a program
            raise
        where = f"{error.filename}: " if error.filename else ""
        reason = f"{where}{os.strerror(error.errno)} (in {_place(error)})"
        sys.exit(_report(f"{reason}; what was there before is undamaged", 2))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        sys.exit(_report(f"out of memory{memory and '; less is needed with '}{memory}", 2))
    except KeyboardInterrupt:
        sys.exit(_report("interrupted", 130))
    finally:
        try:
            print(end="", flush=True)
        except OSError:  # Python would try again at its end, and complain
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _place(error):
    """The last line of this repository that an error passed through: "equihash/files.py, line 40"."""
    root = Path(__file__).parent.parent
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    own = [frame for frame in frames if frame[0].is_relative_to(root) and "site-packages" not in frame[0].parts]
    path, line = own[-1] if own else frames[-1]
    return f"{path.relative_to(root) if own else path}, line {line}"


def _report(message, code):
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code
