"""Collect the results of a database over models, variant tables and seeds: one table, and pictures of the ablations
and of all models.

python show_results.py FastMnistMosaic 10MDB
python show_results.py FastMnistMosaic 10MDB ShannonHamming -v lambda_ablation --format markdown > table.md
"""

import sys

from equihash.command_line import add_results_arguments, argument_parser, command, run
from equihash.errors import Remedy, UserError
from equihash.evaluation.collect import collect
from equihash.files import exists
from equihash.paths import labels_path, split_and_database
from equihash.report.ablation import draw_ablations
from equihash.report.comparison import format_lines
from equihash.report.trade_off import draw_comparison


def parse_arguments():
    parser = argument_parser(__doc__)
    add_results_arguments(parser)
    parser.add_argument("--format", choices=("terminal", "markdown", "csv"), default="terminal")
    return parser.parse_args()


def main():
    args = parse_arguments()
    found = collect(args.task, args.database_name, args.models, args.variant, args.which)
    missing = [f"{rows}: {command(remedy)}" for rows, remedy in found.missing]
    if not found.lines:
        labels = labels_path(args.task, args.database_name)
        if not exists(labels):
            raise UserError(f"{labels} does not exist", Remedy("generate_labels", labels))
        raise UserError(f"no results of {args.database_name} yet; make some, e.g.: {'; '.join(missing[:3])}")
    print(format_lines(found.lines, args.format))
    # what is not the table, so that the table can go to a file
    database = split_and_database(args.which, args.database_name)
    ablations = draw_ablations(args.task, database, found.lines)
    for path in [*ablations, *draw_comparison(args.task, database, args.variant, found.lines)]:
        print(f"drawn: {path}", file=sys.stderr)
    for warning in found.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    for each in missing:
        print(f"missing: {each}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
