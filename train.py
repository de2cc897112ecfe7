"""Train a network: python train.py FastMnistMosaic ShannonHamming [-v VARIANT -i ROW|all]

The state goes to data/experiments/TASK/MODEL/NAME/current/state.pth at every evaluation; a run that was stopped
resumes there when the same command is given again. Beside it lie log.jsonl, training_curve.png and
instances.png, a look at what the network is trained on. Several processes can share the rows of `-i all`.

On all GPUs of a machine: torchrun --nproc_per_node gpu train.py FastMnistMosaic ShannonHamming
"""

import json
import shlex
import signal
import sys
from contextlib import ExitStack

import torch

from equihash import distributed
from equihash.command_line import (
    add_device_argument,
    add_experiment_arguments,
    add_precision_argument,
    add_which_argument,
    argument_parser,
    experiments_from_arguments,
    run,
)
from equihash.config import find_class, try_recipe
from equihash.devices import select_device, select_precision
from equihash.errors import Conflict, Diverged, Locked, Remedy, UserError
from equihash.evaluation.in_training import evaluate_in_training
from equihash.evaluation.results import is_evaluated
from equihash.event_file import EventFile
from equihash.experiment import DatabaseFiles
from equihash.files import exists
from equihash.fingerprints import build_index, encode_database
from equihash.from_config import build_loader, build_network, check_instances
from equihash.paths import labels_path
from equihash.process_settings import forbid_tf32, keep_freed_memory, set_deterministic
from equihash.provenance import provenance, work_of
from equihash.report.report import report
from equihash.report.tables import in_training_line, results_table
from equihash.report.training_pictures import draw_instances, draw_training_curve
from equihash.state import check_weights, load_state, load_trainer, load_weights, save_state, work_differences
from equihash.training_log import write_log

VALID_SEED = 0xBEEF
EVALUATION_SEEDS = {"train": 0xFACE, "valid": 0xFADE}


def parse_arguments():
    parser = argument_parser(__doc__)
    add_experiment_arguments(parser, database=False, all_rows=True)
    parser.add_argument("-l", "--load_checkpoint", type=int, metavar="STEP", help="go on from this checkpoint")
    parser.add_argument(
        "-p", "--checkpoints", type=int, nargs="+", action="extend", default=[], metavar="STEP", help="steps to keep"
    )
    parser.add_argument("-f", "--force_load", action="store_true", help="go on though the configurations differ")
    add_device_argument(parser)
    add_precision_argument(parser)
    parser.add_argument("-s", "--stochastic", action="store_true", help="allow non-deterministic kernels")
    parser.add_argument("-e", "--eval_first", action="store_true", help="evaluate before the first step")
    parser.add_argument("--no_save", action="store_true", help="write nothing")
    parser.add_argument("--no_load", action="store_true", help="start from the beginning although there is a state")
    parser.add_argument("--database_name", metavar="NAME", help="encode, index and evaluate this database at the end")
    add_which_argument(parser)
    parser.add_argument(
        "-a",
        "--args",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY:SUB:VALUE",
        help="override values of the configuration",
    )
    parser.add_argument("--show_config", action="store_true", help="print the merged configuration and exit")
    return parser.parse_args()


def main():
    args = parse_arguments()
    experiments = experiments_from_arguments(args, args.args)
    for experiment in experiments:
        try_recipe(experiment.config)
    if args.show_config:
        for experiment in experiments:
            print(json.dumps(experiment.config, indent=2))
        return
    labels = None if args.database_name is None else labels_path(args.task, args.database_name)
    if labels and (args.no_save or not exists(labels)):
        if args.no_save:
            raise UserError("--database_name needs the saved state: leave out --no_save")
        raise UserError(f"{labels} does not exist", Remedy("generate_labels", labels))
    keep_freed_memory()
    forbid_tf32()
    set_deterministic(not args.stochastic)
    device = select_device(args.device)
    distributed.start()
    distributed.mute_all_but_first()
    precision = select_precision(args.precision, device)
    if args.variant_id == "all":
        train_table(args, experiments, device, precision)
    else:
        train(args, experiments[0], device, precision)


def train_table(args, experiments, device, precision):
    """Train the rows of a table that are not done; one that cannot be trained does not stop the others."""
    skipped, diverged, conflicting = [], [], []
    for experiment in experiments:
        try:
            if distributed.any_of(not is_done(args, experiment, precision)):
                train(args, experiment, device, precision)
            else:
                print(f"{experiment}: done already", flush=True)
        except Locked as error:
            print(f"{experiment}: skipped: {error}", flush=True)
            skipped.append(experiment.config["name"])
        except (Diverged, Conflict) as error:
            print(f"{experiment}: {error}", file=sys.stderr)
            (diverged if isinstance(error, Diverged) else conflicting).append(experiment.config["name"])
    if skipped:
        print(f"skipped, as other processes are at them: {', '.join(skipped)}")
    if args.database_name:
        which = "" if args.which == "test" else f" -w {args.which}"
        found = f"{args.task} {args.database_name} {args.model} -v {args.variant}{which}"
        print(f"all together: python show_results.py {found}")
    failed = {"diverged": diverged, "were trained with another configuration": conflicting}
    if any(failed.values()):
        of = f"of {len(experiments)} rows"
        raise UserError("; ".join(f"{len(rows)} {of} {how}: {', '.join(rows)}" for how, rows in failed.items() if rows))


def is_done(args, experiment, precision):
    """Whether a row is trained to its end, and evaluated where that is asked for."""
    if args.no_save or args.no_load or args.load_checkpoint is not None or not exists(experiment.state_path):
        return False
    state = experiment.load_state()
    if state["trainer"]["step"] < experiment.config["nb_steps"]:
        return False
    if not args.force_load:
        banks = state["provenance"].get("banks")  # those of today are not read for that
        check_same_work(experiment.state_path, work_differences(state, experiment.config, precision, banks))
    return not args.database_name or is_evaluated(DatabaseFiles(experiment, args.database_name, args.which))


def train(args, experiment, device, precision):
    """Train one experiment, and encode, index and evaluate the database if there is one."""
    with ExitStack() as stack:
        train_network(args, experiment, device, precision, stack)
        if args.database_name:
            database = DatabaseFiles(experiment, args.database_name, args.which)
            encode_database(database, device, precision)
            if distributed.is_first():
                build_index(database)
                print(results_table([report(database)]))


def train_network(args, experiment, device, precision, stack):
    """Train one experiment; its lock, and what else is to be closed, goes to an `ExitStack`."""
    config = experiment.config
    torch.manual_seed(config["seed"])  # of the weights, and of what the trainer trains beside them
    network = build_network(config, device)
    loaders = {
        "train": build_loader(config, "train", device, config["seed"]),
        "valid": build_loader(config, "valid", device, VALID_SEED),
    }
    check_instances(network, loaders["train"])
    trainer = find_class(config, "trainer")(network, loaders["train"], precision=precision, **config["trainer_kwargs"])
    results = {"train": {}, "valid": {}}
    if any(not 0 <= step <= config["nb_steps"] for step in args.checkpoints):
        raise UserError(f"-p/--checkpoints: the run has steps 0 to {config['nb_steps']}")

    made_by = provenance(
        **work_of(experiment, config, device, precision),
        banks={which: loader.digest() for which, loader in loaders.items()},
        seeds={"train": config["seed"], "valid": VALID_SEED, "evaluation": EVALUATION_SEEDS},
    )
    if not args.no_save:
        stack.enter_context(distributed.locked(experiment.home))
    write = distributed.is_first() and not args.no_save
    source = experiment.at(args.load_checkpoint) / "state.pth"
    if args.load_checkpoint is not None or (exists(source) and not args.no_load):
        step = {} if args.load_checkpoint is None else {"checkpoints": [args.load_checkpoint]}
        state = load_state(source, Remedy("train", experiment, **step))
        if not args.force_load:
            check_same_work(source, work_differences(state, config, precision, made_by["banks"]))
        load_weights(network, state["net"], source)
        load_trainer(trainer, state["trainer"], source)
        results = {"train": state["train_results"], "valid": state["valid_results"]}
        print(f"{experiment}: resuming from step {trainer.step} of {source}")

    def evaluate():
        if not distributed.is_first():
            return
        for which, loader in loaders.items():
            found = evaluate_in_training(network, loader, config["eval_size"], EVALUATION_SEEDS[which], precision)
            results[which][trainer.step] = found
            print(in_training_line(trainer.step, which, found), flush=True)

    def save():
        check_weights(network, trainer.step)
        if not write:
            return
        if trainer.step in args.checkpoints:  # before the current state, so that a crash cannot leave it out
            save_state(experiment.at(trainer.step) / "state.pth", config, network, trainer, results, made_by)
        save_state(experiment.state_path, config, network, trainer, results, made_by)
        write_logs()

    def write_logs():
        write_log(experiment.folder / "log.jsonl", trainer.training_log, results)
        draw_training_curve(experiment.folder / "training_curve.png", trainer.training_log, results)
        events.update(trainer.training_log, results)

    distributed.wait()  # until all have read the state that is there
    if write:
        events = EventFile(experiment.folder)
        stack.callback(events.close)
        draw_instances(experiment.folder / "instances.png", loaders["train"])
        if trainer.step:
            write_logs()  # a run that was killed may not have come to it
    if trainer.step == 0:
        if args.eval_first:
            evaluate()
        save()
    with StopRequest() as stopped:
        while trainer.step < config["nb_steps"] and not stopped():
            next_evaluation = trainer.step - trainer.step % config["eval_freq"] + config["eval_freq"]
            pauses = [next_evaluation, config["nb_steps"], *args.checkpoints]
            pause = min(step for step in pauses if step > trainer.step)
            trainer.train(pause - trainer.step, stopped)
            if trainer.step == pause and pause in (next_evaluation, config["nb_steps"]):
                trainer.aggregate()
                evaluate()
            save()
    if stopped():
        saved = "nothing was saved" if args.no_save else f"resume it with: {resuming_command(args)}"
        print(f"stopped at step {trainer.step}; {saved}", file=sys.stderr)
        sys.exit(130)
    if not args.no_save:
        print(f"{experiment}: {trainer.step} steps, {experiment.state_path}")


def check_same_work(path, differences):
    if differences:
        raise Conflict(
            f"{path} was trained with another configuration: now {'; '.join(differences)}. "
            "Use --force_load to continue with the new values, or --no_load to start again"
        )


def resuming_command(args):
    """The command line that resumes a run that was stopped."""
    words = ["python", "train.py", args.task, args.model]
    for name, option in (("variant", "-v"), ("variant_id", "-i"), ("database_name", "--database_name")):
        if getattr(args, name) is not None:
            words += [option, str(getattr(args, name))]
    if args.which != "test":
        words += ["-w", args.which]
    if args.device != "auto":
        words += ["-d", args.device]
    if args.precision != "float32":
        words += ["--precision", args.precision]
    for option, values in (("-p", [str(step) for step in args.checkpoints]), ("-a", args.args)):
        words += [option, *values] if values else []
    return shlex.join(words + ["-s"] * args.stochastic)


class StopRequest:
    """Within it, Ctrl-C and SIGTERM are a wish to stop after the step; a second one stops at once.

    Calling it tells whether some process was asked to stop: all of them must call it.
    """

    def __enter__(self):
        self.asked = False
        self.handlers = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_):
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def __call__(self):
        return distributed.any_of(self.asked)

    def _ask(self, number, frame):
        self.asked = True
        self.__exit__()
        print("stopping after this step or evaluation; again stops at once", file=sys.stderr)


if __name__ == "__main__":
    run(main, "-a trainer_kwargs:forward_passes:two, or a smaller loader_kwargs:size")
