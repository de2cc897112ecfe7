"""Evaluate an encoded and indexed database: a table, results.json, pictures, and report.html with all of them.

python evaluate_binary_equihash.py FastMnistMosaic 10MDB ShannonHamming --nb_lookups 1 64
python evaluate_binary_equihash.py FastMnistMosaic 10MDB ShannonHamming --shard 3 --nb_shards 4   (for each shard, then)
python evaluate_binary_equihash.py FastMnistMosaic 10MDB ShannonHamming --nb_shards 4
"""

from equihash.command_line import (
    add_device_argument,
    add_experiment_arguments,
    add_precision_argument,
    add_shard_arguments,
    argument_parser,
    check_shard_arguments,
    command,
    experiments_from_arguments,
    run,
)
from equihash.devices import select_device, select_precision
from equihash.errors import Remedy, UserError
from equihash.evaluation.shards import count_shard
from equihash.experiment import DatabaseFiles
from equihash.files import exists
from equihash.fingerprints import build_index, encode_database
from equihash.process_settings import forbid_tf32, keep_freed_memory
from equihash.report.report import report
from equihash.report.tables import results_table


def parse_arguments():
    parser = argument_parser(__doc__)
    add_experiment_arguments(parser, all_rows=True)
    add_device_argument(parser)
    add_precision_argument(parser)
    parser.add_argument("-q", "--no_queries", action="store_true", help="only the collision rates")
    parser.add_argument("-e", "--encode", action="store_true", help="encode and index first (with -d and --precision)")
    parser.add_argument(
        "--nb_lookups", type=int, nargs="+", default=[1], metavar="N", help="lookups per query, by multi-probing"
    )
    parser.add_argument(
        "--map",
        type=int,
        metavar="N",
        help="mean average precision, too, of N evenly spaced positive queries, each of which is compared with all "
        "fingerprints: some 3 s for N = 1,000 and a million fingerprints of 64 bits",
    )
    add_shard_arguments(parser)
    return parser.parse_args()


def check_map_arguments(args):
    if args.map < 1:
        raise UserError(f"--map must be at least 1, not {args.map}")
    if args.no_queries:
        raise UserError("--map is of queries: leave out --no_queries")
    if args.shard is not None and args.nb_shards > 1:
        raise UserError("--map reads the fingerprints of all shards: leave out --shard, and give it with the sum")


def lacking(files, encode):
    """What a row of a table lacks to be evaluated, and the command that makes it; None if nothing."""
    if not exists(files.experiment.state_path):
        return f"not trained: {command(Remedy('train', files.experiment))}"
    if not encode and not exists(files.fingerprints):
        return f"not encoded: {command(Remedy('encode_database and build_index', files))}"
    return None


def main():
    args = parse_arguments()
    if min(args.nb_lookups) < 1:
        raise UserError("--nb_lookups must be at least 1")
    check_shard_arguments(args)
    if args.map is not None:
        check_map_arguments(args)
    if args.encode and args.nb_shards > 1:
        raise UserError("--encode is for an index in one piece: run encode.py and build_index.py first")
    nb_lookups = [] if args.no_queries else sorted({1, *args.nb_lookups})
    all_results = []
    keep_freed_memory()
    forbid_tf32()
    device = select_device(args.device)
    precision = select_precision(args.precision, device)
    experiments = experiments_from_arguments(args, checkpoint=args.load_checkpoint)
    databases = [DatabaseFiles(experiment, args.database_name, args.which) for experiment in experiments]
    lacks = [lacking(files, args.encode) for files in databases]
    there_is_one = not all(lacks)  # else the first says what is wrong
    for files, lack in zip(databases, lacks):
        if lack and there_is_one:
            continue
        if args.encode:
            encode_database(files, device, precision)
            build_index(files)
        if args.shard is not None and args.nb_shards > 1:
            count_shard(files, nb_lookups, args.shard, args.nb_shards)
        else:
            all_results.append(report(files, nb_lookups, args.nb_shards, args.map or 0))
    if all_results:
        print(results_table(all_results))
    for lack in filter(None, lacks):
        print(f"left out, {lack}")


if __name__ == "__main__":
    run(main, "a smaller --nb_lookups, or --no_queries")
