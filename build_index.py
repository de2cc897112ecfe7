"""Build the inverted index of a database's fingerprints.

python build_index.py FastMnistMosaic 10MDB ShannonHamming
"""

import argparse

from equihash import errors
from equihash.errors import UserError
from equihash.experiment import add_experiment_arguments, database_files_from_arguments
from equihash.fingerprints import build_index


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_experiment_arguments(parser)
    parser.add_argument("-f", "--force", action="store_true", help="build again what is built")
    parser.add_argument(
        "--memory_limit", default="8G", metavar="SIZE",
        help="memory to build in, e.g. 512M or 16G: with less, the fingerprints are read more often (default: 8G)",
    )  # fmt: skip
    return parser.parse_args()


def main():
    args = parse_arguments()
    build_index(database_files_from_arguments(args), args.force, parse_size(args.memory_limit))


def parse_size(text):
    """Turn "512M" or "16G" into bytes."""
    number, unit = text[:-1], text[-1:].upper()
    if unit not in ("M", "G") or not number.isdecimal() or not int(number):
        raise UserError(f"--memory_limit must be a size such as 512M or 16G, not {text!r}")
    return int(number) << {"M": 20, "G": 30}[unit]


if __name__ == "__main__":
    errors.run(main)
