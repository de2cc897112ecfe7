"""Results as lines of text that fit a terminal."""

from equihash.evaluation.metrics import Answers, Metric, columns, format_rate
from equihash.labels import Labels
from equihash.querying import Query


def results_table(all_results: list[dict]) -> str:
    """One row for each of the results and number of lookups, the intervals below the values."""
    width = max([len(_title(results, "64")) for results in all_results] + [8])
    first, shown = all_results[0], columns(all_results)
    lines = [
        f"{first['task']} {first['model']}, {first['database']}: {first['database_size']:,} items, "
        f"{first['which']} split",
        " ".join([" " * width, *(f"{metric.short:^11}" for metric in shown)]),
    ]
    for results in all_results:
        for title, cells in rows_of(results, shown):
            for head, part in ((title, 0), ("", 1)):
                lines.append(" ".join([head.ljust(width), *(f"{cell[part]:^11}" for cell in cells)]))
        if warning := collapse(results):
            lines.append(f"warning: {results['name']}: {warning}")
    for metric in shown:
        names = dict.fromkeys([metric.short, metric.name])  # which may be the same
        lines.append(f"{' '.join(names)}: {metric.meaning}")
    return "\n".join(line.rstrip() for line in [*lines, note(shown)])


def rows_of(results: dict, shown: list[Metric]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The rows of the table: a title, then the value and its interval (or nothing) in each of the columns."""
    rows = []
    for number, row in results.get("lookups", {"1": None}).items():
        row = results if number == "1" else row  # the results have those of pairs, too
        rows.append((_title(results, number), [_cell(row, metric) for metric in shown]))
    return rows


def note(shown: list[Metric]) -> str:
    """What the table does not say by itself."""
    *names, last = (metric.short for metric in shown if metric.of is not Answers)
    fixed = f"{', '.join(names)} and {last}"
    return f"In brackets: 95% confidence intervals. {fixed} do not depend on the number of lookups."


def collapse(results: dict) -> str | None:
    """What is wrong where a tenth of all items have one fingerprint."""
    if results["largest_bucket"] > results["database_size"] // 10 > 0:
        share = results["largest_bucket"] / results["database_size"]
        return f"collapsed, {share:.0%} of the items have one fingerprint"
    return None


def answer(query: Query, labels: Labels, nb_shown: int = 20) -> str:
    """What was found for a query, and the classes of the first items."""
    text = f"{query.name}: {len(query.found):,} found"
    if query.relevant is not None:
        relevant = int(query.relevant.sum())
        text += f", {relevant:,} of them relevant; relevant ones missed: "
        text += "not counted in so large a database" if query.missed is None else f"{len(query.missed):,}"
    lines = [text]
    for row, item in enumerate(query.found[:nb_shown].tolist()):
        numbers = " ".join(map(str, labels.database[item].ravel()))
        lines.append(f"  {item:>12}  {query.relevance(row):10}  class {numbers}")
    if len(query.found) > nb_shown:
        lines.append(f"  and {len(query.found) - nb_shown:,} more")
    return "\n".join(lines)


def in_training_line(step: int, which: str, results: dict) -> str:
    """What train.py prints of an in-training evaluation."""
    recall, precision = (" ".join(map(format_rate, results[key])) for key in ("recall", "precision"))
    entropies = " ".join(f"{value:.2f}" for value in results["worst_entropies"].values())
    return (
        f"step {step} {which}: at Hamming 0 1 2 recall {recall} precision {precision}; "
        f"medians {results['positive_hamming_distances_median']} {results['negative_hamming_distances_median']}; "
        f"unique {results['nb_unique_codes']}/{results['nb_codes']}; worst entropies of 1-4 bits {entropies}"
    )


def markdown(head: list[str], rows: list[list[str]], nb_names: int) -> str:
    """A Markdown table, the columns after the first `nb_names` aligned to the right."""
    rule = ["---"] * nb_names + ["---:"] * (len(head) - nb_names)
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *rows])


def lookups_text(number: int | str) -> str:
    """A number of lookups in words: "1 lookup", "64 lookups"."""
    return f"{number} lookup{'s' if int(number) > 1 else ''}"


def size_text(number: float) -> str:
    """A number of items: "500", "10K", "1M", "100B"."""
    for unit, letter in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if number >= unit:
            return f"{number / unit:g}{letter}"
    return f"{number:g}"


def _title(results, number):
    return f"{results['name']}, {lookups_text(number)}"


def _cell(row: dict, metric: Metric) -> tuple[str, str]:
    if metric.key not in row:
        return "-", ""
    interval = row["intervals"].get(metric.key)
    return metric.format(row[metric.key]), metric.format_interval(interval) if interval else ""
