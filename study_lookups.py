"""How many lookups pay, in a database of what size: a table and a picture of the networks that were evaluated.

python evaluate_binary_equihash.py FastMnistMosaic 10MDB ShannonHamming --nb_lookups 1 4 16 64 256
python study_lookups.py FastMnistMosaic 10MDB ShannonHamming

The perfect retrieval rate in growing parts of the database, a check of how well it is predicted from smaller ones, and
the prediction for larger ones: see equihash/studies/prediction.py.
"""

from equihash.command_line import add_results_arguments, argument_parser, run
from equihash.paths import DATA, split_and_database
from equihash.studies.lookups import study
from equihash.studies.lookups_report import draw_study, format_study, prediction_errors


def parse_arguments():
    parser = argument_parser(__doc__)
    add_results_arguments(parser)
    parser.add_argument(
        "--nb_lookups", type=int, nargs="+", metavar="N", help="only these numbers of lookups (default: all evaluated)"
    )
    parser.add_argument("--format", choices=("terminal", "markdown"), default="terminal")
    return parser.parse_args()


def main():
    args = parse_arguments()
    rows = study(args.task, args.database_name, args.models, args.variant, args.nb_lookups, args.which)
    print(format_study(rows, args.format))
    print(f"\n{prediction_errors(rows)}")
    name = split_and_database(args.which, args.database_name)
    path = DATA / "experiments" / args.task / f"lookups_{args.variant or 'all'}_{name}.png"
    draw_study(path, rows, f"{args.task}, {name}")
    print(f"drawn: {path}")


if __name__ == "__main__":
    run(main)
