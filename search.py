"""Search an indexed database: what has the fingerprint of an item, of a class, of a picture?

python search.py FastMnistMosaic 10MDB ShannonHamming --id 7 1234
python search.py FastMnistMosaic 10MDB ShannonHamming --label 12 7 9999 3 --nb_lookups 64
python search.py FastMnistMosaic 10MDB ShannonHamming --picture mosaic.png
"""

from pathlib import Path

from equihash.command_line import (
    add_device_argument,
    add_experiment_arguments,
    argument_parser,
    database_files_from_arguments,
    run,
)
from equihash.process_settings import forbid_tf32, keep_freed_memory
from equihash.querying import Searcher
from equihash.report.search_gallery import draw_search
from equihash.report.tables import answer, lookups_text


def parse_arguments():
    parser = argument_parser(__doc__)
    add_experiment_arguments(parser)
    queries = parser.add_mutually_exclusive_group(required=True)
    queries.add_argument(
        "--id", type=int, nargs="+", action="extend", default=[], metavar="N", help="items of the database, from 0"
    )
    queries.add_argument("--label", type=int, nargs="+", metavar="N", help="a class: its bank images, row by row")
    queries.add_argument(
        "--picture", type=Path, nargs="+", action="extend", default=[], metavar="FILE", help="pictures of mosaics"
    )
    parser.add_argument("--nb_lookups", type=int, default=1, metavar="N", help="lookups per query, by multi-probing")
    add_device_argument(parser)
    return parser.parse_args()


def main():
    args = parse_arguments()
    keep_freed_memory()
    forbid_tf32()
    files = database_files_from_arguments(args)
    searcher = Searcher(files, args.device)
    if args.id and not searcher.same_noise:
        print(f"the database was not encoded on a {searcher.device.type} device: its items have other noise here")
    queries = [searcher.by_id(item) for item in args.id] + [searcher.by_picture(path) for path in args.picture]
    if args.label is not None:
        queries.append(searcher.by_label(args.label))
    searcher.search(queries, args.nb_lookups)
    for query in queries:
        print(answer(query, searcher.labels))
    times = ", ".join(f"{what} {milliseconds:.2f} ms" for what, milliseconds in searcher.milliseconds.items())
    plural = "y" if len(queries) == 1 else "ies"
    print(f"{len(queries)} quer{plural} among {len(searcher.items):,} items: {times}")
    lookups = f"{lookups_text(args.nb_lookups)} a query"
    draw_search(files.folder / "search.png", searcher, queries, f"{files.experiment}\n{files.database}: {lookups}")
    print(files.folder / "search.png")


if __name__ == "__main__":
    run(main, "-d cpu")
