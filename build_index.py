"""Build the inverted index of a database's fingerprints.

python build_index.py FastMnistMosaic 10MDB ShannonHamming
python build_index.py FastMnistMosaic 10MDB ShannonHamming --shard 3 --nb_shards 4   (for databases beyond one machine)
"""

from equihash.command_line import (
    add_experiment_arguments,
    add_memory_argument,
    add_shard_arguments,
    argument_parser,
    check_shard_arguments,
    database_files_from_arguments,
    run,
)
from equihash.errors import UserError
from equihash.fingerprints import build_index


def parse_arguments():
    parser = argument_parser(__doc__)
    add_experiment_arguments(parser)
    parser.add_argument("-f", "--force", action="store_true", help="build again what is built")
    add_memory_argument(parser)
    add_shard_arguments(parser)
    return parser.parse_args()


def main():
    args = parse_arguments()
    check_shard_arguments(args)
    if args.shard is None and args.nb_shards > 1:
        raise UserError(f"--nb_shards {args.nb_shards} needs --shard 0 to {args.nb_shards - 1}: which is to be built?")
    files = database_files_from_arguments(args)
    build_index(files, args.force, args.memory_limit, args.shard or 0, args.nb_shards)


if __name__ == "__main__":
    run(main, "a smaller --memory_limit")
