"""Get the data that the tasks need."""

import argparse

from equihash.errors import run
from equihash.prepare import mnist


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="dataset", required=True)
    command = commands.add_parser("mnist", help=f"MNIST, to {mnist.PATH}")
    command.add_argument("--source", metavar="FOLDER", help="folder of the four idx files (default: download them)")
    arguments = parser.parse_args()
    if arguments.dataset == "mnist":
        mnist.prepare_mnist(arguments.source)
        print(f"wrote {mnist.PATH}")


if __name__ == "__main__":
    run(main)
