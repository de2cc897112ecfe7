"""Build the inverted index of a database's fingerprints.

python build_index.py FastMnistMosaic 10MDB ShannonHamming
"""

import argparse

from equihash import errors
from equihash.devices import add_memory_argument
from equihash.experiment import add_experiment_arguments, database_files_from_arguments
from equihash.fingerprints import build_index


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_experiment_arguments(parser)
    parser.add_argument("-f", "--force", action="store_true", help="build again what is built")
    add_memory_argument(parser)
    return parser.parse_args()


def main():
    args = parse_arguments()
    build_index(database_files_from_arguments(args), args.force, args.memory_limit)


if __name__ == "__main__":
    errors.run(main, "a smaller --memory_limit")
