"""Join the fingerprints of encode.py's jobs.

python merge.py FastMnistMosaic 10MDB ShannonHamming --nb_jobs 10 --build_index
"""

import argparse

from equihash import errors
from equihash.devices import add_memory_argument
from equihash.experiment import add_experiment_arguments, database_files_from_arguments
from equihash.fingerprints import build_index, merge_shards


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    errors.run(main, "a smaller --memory_limit")
