"""Get the data that the tasks need."""

from pathlib import Path

from equihash.command_line import argument_parser, run
from equihash.errors import UserError
from equihash.files import exists
from equihash.prepare import dead_leaves, mnist, openimages, perlin, pictures

SPLITS = ("train", "valid", "test")


def main():
    parser = argument_parser(__doc__)
    commands = parser.add_subparsers(dest="dataset", required=True)

    text = f"the MNIST digits: {mnist.PATH}"
    command = commands.add_parser("mnist", help=text, description=text)
    command.add_argument("--source", metavar="FOLDER", help="folder of the four idx files (default: download them)")
    command.set_defaults(prepare=prepare_mnist)

    text = f"180x180 images for natural mosaics: {openimages.FOLDER}/SPLIT.hdf5"
    command = commands.add_parser("openimages", help=text, description=text)
    command.add_argument("--split", choices=SPLITS, help="which bank (only --download can do without: all three)")
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--source", metavar="FOLDER", help="take the centres of all pictures in a folder")
    source.add_argument("--download", action="store_true", help=f"fetch {openimages.REPOSITORY} (9.7 GB per split)")
    command.add_argument("-f", "--force", action="store_true", help="replace a bank that is there")
    command.set_defaults(prepare=prepare_open_images)

    text = f"a bank of your own pictures, for task PictureCopies: {pictures.FOLDER}/SPLIT.hdf5"
    command = commands.add_parser("pictures", help=text, description=text)
    command.add_argument("--source", metavar="FOLDER", required=True, help="take all pictures in a folder")
    command.add_argument("--split", choices=SPLITS, required=True, help="which bank")
    command.add_argument(
        "--classes",
        choices=pictures.CLASSES,
        default="files",
        help="a class is one picture, or all pictures in one sub-folder of FOLDER (default: files)",
    )
    command.add_argument("--side", type=int, default=128, metavar="N", help="pixels of a side (default: 128)")
    command.add_argument(
        "--banks", default=pictures.FOLDER, metavar="FOLDER", help="where the bank goes, for loader_kwargs:path"
    )
    command.add_argument("-f", "--force", action="store_true", help="replace a bank that is there")
    command.set_defaults(prepare=prepare_pictures)

    text = "picture files drawn at random, free of rights, and edited copies of them: dead leaves"
    command = commands.add_parser("dead_leaves", help=text, description=text)
    command.add_argument("--folder", required=True, help="where the files go")
    command.add_argument("--nb_pictures", type=int, required=True, metavar="N")
    command.add_argument("--nb_copies", type=int, default=0, metavar="N", help="edited copies, in FOLDER/copies")
    command.add_argument("-s", "--seed", type=int, default=0, help="default: 0; files that are there are kept")
    command.set_defaults(prepare=prepare_dead_leaves)

    text = f"ready displacement maps for natural mosaics, instead of fresh ones: {perlin.PATH}"
    command = commands.add_parser("perlin", help=text, description=text)
    size = f"maps of each resolution, 97 KB together (default: {perlin.NB_MAPS})"
    source = command.add_mutually_exclusive_group()
    source.add_argument("--nb_maps", type=int, default=perlin.NB_MAPS, metavar="N", help=size)
    source.add_argument("--download", action="store_true", help=f"fetch {perlin.REPOSITORY} (6 GB) instead")
    command.add_argument("-f", "--force", action="store_true", help="replace a file that is there")
    command.set_defaults(prepare=prepare_perlin)

    arguments = parser.parse_args()
    arguments.prepare(arguments)


def prepare_mnist(arguments):
    mnist.prepare_mnist(arguments.source)
    print(f"wrote {mnist.PATH}")


def prepare_open_images(arguments):
    if arguments.split is None and not arguments.download:
        raise UserError(f"say with --split which bank the pictures are for: {', '.join(SPLITS)}")
    for split in SPLITS if arguments.split is None else (arguments.split,):
        if arguments.split is None and exists(openimages.bank_path(split)) and not arguments.force:
            print(f"{openimages.bank_path(split)} is there already")
            continue
        path = check_absent(openimages.bank_path(split), arguments.force)
        if arguments.download:
            openimages.download_open_images(split, path)
            print(f"wrote {path}")
        else:
            counts = openimages.prepare_open_images(arguments.source, path)
            print_counts(path, counts)


def prepare_pictures(arguments):
    path = check_absent(pictures.bank_path(arguments.split, arguments.banks), arguments.force)
    counts = pictures.prepare_pictures(arguments.source, path, arguments.classes, arguments.side)
    print_counts(path, counts)


def prepare_dead_leaves(arguments):
    dead_leaves.prepare_dead_leaves(arguments.folder, arguments.nb_pictures, arguments.nb_copies, arguments.seed)
    print(f"{arguments.folder}: {arguments.nb_pictures} pictures, {arguments.nb_copies} copies")


def prepare_perlin(arguments):
    check_absent(perlin.PATH, arguments.force)
    if arguments.download:
        perlin.download_perlin()
    else:
        perlin.prepare_perlin(arguments.nb_maps)
    picture = Path(perlin.PATH).with_suffix(".png")
    perlin.draw_perlin(picture)
    print(
        f"wrote {perlin.PATH} and a look at it, {picture}; to use it: -a loader_kwargs:perlin_noise_path:{perlin.PATH}"
    )


def print_counts(path, counts):
    print(
        f"wrote {path}: {counts['kept']} images; skipped {counts['unreadable']} unreadable files and "
        f"{counts['duplicate']} duplicates"
    )


def check_absent(path, force):
    if exists(path) and not force:
        raise UserError(f"{path} exists; -f/--force replaces it")
    return path


if __name__ == "__main__":
    run(main)
