"""Join the fingerprints of encode.py's jobs.

python merge.py FastMnistMosaic 10MDB ShannonHamming --nb_jobs 10 --build_index
"""

from equihash.command_line import (
    add_experiment_arguments,
    add_memory_argument,
    argument_parser,
    database_files_from_arguments,
    run,
)
from equihash.fingerprints import build_index, merge_shards


def parse_arguments():
    parser = argument_parser(__doc__)
    add_experiment_arguments(parser)
    parser.add_argument("-n", "--nb_jobs", type=int, required=True, metavar="N", help="shares to join")
    parser.add_argument("-f", "--force", action="store_true", help="merge again what is merged")
    parser.add_argument("-b", "--build_index", action="store_true", help="build the inverted index afterwards")
    add_memory_argument(parser)
    return parser.parse_args()


def main():
    args = parse_arguments()
    files = database_files_from_arguments(args)
    merge_shards(files, args.nb_jobs, args.force)
    if args.build_index:
        build_index(files, args.force, args.memory_limit)


if __name__ == "__main__":
    run(main, "a smaller --memory_limit")
