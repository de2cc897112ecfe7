"""Results as lines of text that fit a terminal."""

from equihash.evaluation.metrics import Pairs, columns


def results_table(all_results):
    """One row for each of the results and number of lookups, the intervals below the values: str."""
    width = max([len(_title(results, "64")) for results in all_results] + [8])
    first = all_results[0]
    lines = [
        f"{first['task']} {first['model']}, {first['database']}: {first['database_size']:,} items, "
        f"{first['which']} split",
        " ".join([" " * width, *(f"{metric.short:^11}" for metric in columns())]),
    ]
    for results in all_results:
        for title, cells in rows_of(results):
            lines.append(f"{title:{width}} " + " ".join(f"{value:^11}" for value, _ in cells))
            lines.append(" " * width + " " + " ".join(f"{interval:^11}" for _, interval in cells))
        if warning := collapse(results):
            lines.append(f"warning: {results['name']}: {warning}")
    for metric in columns():
        names = dict.fromkeys([metric.short, metric.name])  # which may be the same
        lines.append(f"{' '.join(names)}: {metric.meaning}")
    return "\n".join(line.rstrip() for line in [*lines, note()])


def rows_of(results):
    """The rows of the table: [(title, [(value, its interval or "") of each of `columns`])], all str."""
    rows = []
    for number, row in results.get("lookups", {"1": None}).items():
        row = results if number == "1" else row  # the results have those of pairs, too
        rows.append((_title(results, number), [_cell(row, metric) for metric in columns()]))
    return rows


def note():
    """What to know of the table, in one line: str."""
    names = [metric.short for metric in columns() if metric.of is Pairs]
    return f"In brackets: 95% confidence intervals. {' and '.join(names)} are not of a single lookup."


def collapse(results):
    """What is wrong where a tenth of all items have one fingerprint; None where they do not."""
    if results["largest_bucket"] > results["database_size"] // 10 > 0:
        share = results["largest_bucket"] / results["database_size"]
        return f"collapsed, {share:.0%} of the items have one fingerprint"
    return None


def answer(query, labels, nb_shown=20):
    """What was found for a query, and up to `nb_shown` of the items with their `Labels`, as lines of text: str."""
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


def in_training_line(step, which, results):
    """What train.py prints of an in-training evaluation."""
    recall, precision = (" ".join(f"{value:.3f}" for value in results[key]) for key in ("recall", "precision"))
    entropies = " ".join(f"{value:.2f}" for value in results["worst_entropies"].values())
    return (
        f"step {step} {which}: at Hamming 0 1 2 recall {recall} precision {precision}; "
        f"medians {results['positive_hamming_distances_median']} {results['negative_hamming_distances_median']}; "
        f"unique {results['nb_unique_codes']}/{results['nb_codes']}; worst entropies of 1-4 bits {entropies}"
    )


def lookups_text(number):
    """A number of lookups, an int or a key of results.json, in words: "1 lookup", "64 lookups"."""
    return f"{number} lookup{'s' if int(number) > 1 else ''}"


def _title(results, number):
    return f"{results['name']}, {lookups_text(number)}"


def _cell(row, metric):
    """A value and its interval."""
    if metric.key not in row:
        return "-", ""
    interval = row["intervals"].get(metric.key)
    return metric.format(row[metric.key]), metric.format_interval(interval) if interval else ""
