"""Find copies among the pictures of a folder and its sub-folders, edited ones too. No picture is changed or deleted.

python find_copies.py FOLDER                                (with the network of PictureCopies ShannonHamming)
python find_copies.py FOLDER HashNet --nb_lookups 16        (also pictures whose fingerprints nearly agree)
python find_copies.py FOLDER --query FILE ...               (only the copies of these pictures)

Pictures that are known from an earlier run are not read again, unless they have changed.
"""

import os
from pathlib import Path

from equihash.command_line import add_device_argument, argument_parser, run
from equihash.copies.collection import encode_file, home_of, update_collection
from equihash.copies.encoder import PictureEncoder
from equihash.copies.groups import find_copies, find_groups
from equihash.copies.page import write_page
from equihash.copies.tables import write_csv, write_groups_json
from equihash.errors import UserError
from equihash.experiment import Experiment
from equihash.process_settings import forbid_tf32, keep_freed_memory

TASK = "PictureCopies"
MOST_NAMED = 20  # unreadable files; copies.json has all


def parse_arguments():
    parser = argument_parser(__doc__)
    parser.add_argument("folder", type=Path, help="the pictures: BMP, GIF, JPEG, PNG, TIFF, WebP")
    parser.add_argument(
        "model", nargs="?", default="ShannonHamming", help=f"a folder of configs/{TASK}/ (default: ShannonHamming)"
    )
    parser.add_argument("-v", "--variant", metavar="NAME", help=f"variant table configs/{TASK}/MODEL/NAME.json")
    parser.add_argument("-i", "--variant_id", type=int, metavar="N", help="row of the variant table, from 0")
    parser.add_argument("-l", "--load_checkpoint", type=int, metavar="STEP", help="use this checkpoint")
    parser.add_argument("--nb_lookups", type=int, default=1, metavar="N", help="lookups per picture, by multi-probing")
    parser.add_argument(
        "--query", type=Path, nargs="+", action="extend", metavar="FILE", help="find only the copies of these pictures"
    )
    add_device_argument(parser)
    return parser.parse_args()


def main():
    args = parse_arguments()
    keep_freed_memory()
    forbid_tf32()
    experiment = Experiment(TASK, args.model, args.variant, args.variant_id, checkpoint=args.load_checkpoint)
    encoder = PictureEncoder(experiment, args.device)
    most = 2 ** min(encoder.nb_bits, 12)
    if not 1 <= args.nb_lookups <= most:
        raise UserError(f"--nb_lookups must be 1 to {most}, not {args.nb_lookups}")
    home = home_of(args.folder, experiment.folder)
    collection = update_collection(args.folder, encoder, home)
    print(
        f"{args.folder}: {len(collection.pictures):,} pictures; {collection.nb_read:,} files were new or changed, "
        f"{collection.nb_forgotten:,} are gone"
    )
    if args.query:
        for path in args.query:
            print_copies(path, collection, find_copies(collection, encode_file(path, encoder).logits, args.nb_lookups))
    else:
        write_groups(home, collection, args.nb_lookups, str(experiment))
    print_unreadable(collection.unreadable)


def print_copies(path, collection, rows):
    """Print the copies of a query; the file itself, where it is in the collection, is none."""
    paths = [collection.folder / collection.pictures[row].name for row in rows]
    paths = [copy for copy in paths if os.path.realpath(copy) != os.path.realpath(path)]
    print(f"{path}: {len(paths):,} {'copy' if len(paths) == 1 else 'copies'}")
    for copy in paths:
        print(f"  {copy}")


def write_groups(home, collection, nb_lookups, network):
    groups = find_groups(collection, nb_lookups)
    write_csv(home / "copies.csv", collection, groups)
    write_groups_json(home / "copies.json", collection, groups, nb_lookups)
    write_page(home / "copies.html", collection, groups, nb_lookups, network)
    nb_grouped = sum(len(group.rows) for group in groups)
    print(f"{len(groups):,} groups of copies, with {nb_grouped:,} pictures:")
    for name in ("copies.html", "copies.csv", "copies.json"):
        print(f"  {home / name}")


def print_unreadable(unreadable):
    for name, reason in list(unreadable.items())[:MOST_NAMED]:
        print(f"not read: {name!r}: {reason}")
    if len(unreadable) > MOST_NAMED:
        print(f"not read: {len(unreadable) - MOST_NAMED:,} more files")


if __name__ == "__main__":
    run(main, "-d cpu, or a smaller --nb_lookups")
