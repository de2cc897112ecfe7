"""Make the labels of a procedural database and of its queries: data/labels/TASK/NAME.hdf5

python generate_labels.py FastMnistMosaic 10MDB -b10000 -d10000000 -p1000000 -n1000000 -t1000000 -m 2 2
"""

from equihash.command_line import argument_parser, run
from equihash.label_generation import generate_labels
from equihash.paths import check_task, labels_path


def parse_arguments():
    parser = argument_parser(__doc__)
    parser.add_argument("task", help="a folder of configs/, e.g. FastMnistMosaic")
    parser.add_argument("name", help="name of the database")
    parser.add_argument("-b", "--bank_size", type=int, required=True, help="images that mosaics are made of")
    parser.add_argument("-d", "--database_size", type=int, required=True, help="items of the database")
    parser.add_argument("-p", "--nb_positive_queries", type=int, required=True, help="queries that are in it")
    parser.add_argument("-n", "--nb_negative_queries", type=int, required=True, help="queries that are not")
    parser.add_argument("-t", "--nb_negative_pairs", type=int, required=True, help="pairs of two classes")
    parser.add_argument("-m", "--mosaic_shape", type=int, nargs=2, required=True, metavar=("H", "W"))
    parser.add_argument("-s", "--seed", type=integer, default=0xCAFE, help="default: 0xcafe")
    parser.add_argument("-f", "--force", action="store_true", help="replace labels that exist")
    return parser.parse_args()


def integer(text):
    """An integer, also written 0x..."""
    return int(text, 0)


def main():
    args = parse_arguments()
    check_task(args.task)
    path = labels_path(args.task, args.name)
    written = generate_labels(
        path,
        args.bank_size,
        tuple(args.mosaic_shape),
        args.database_size,
        args.nb_positive_queries,
        args.nb_negative_queries,
        args.nb_negative_pairs,
        args.seed,
        args.force,
    )
    nb_cells = args.mosaic_shape[0] * args.mosaic_shape[1]
    already = "" if written else ", there already"
    print(f"{path}: {args.database_size:,} items of {args.bank_size}^{nb_cells} classes{already}")


if __name__ == "__main__":
    run(main, "fewer queries and pairs: -p, -n, -t")
