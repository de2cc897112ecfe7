"""Results as lines of text that fit a terminal."""

import math

COLUMNS = {
    "PRR": "perfect_retrieval_rate",
    "recall": "recall",
    "TPR": "true_positive_rate",
    "FPR": "false_positive_rate",
    "RCR": "relevant_collision_rate",
    "ICR": "irrelevant_collision_rate",
}
LEGEND = """PRR perfect retrieval rate, TPR/FPR true/false positive rate of "is anything of this class there?",
RCR/ICR probability that two instances of one class/of different classes have the same fingerprint
(not of a single lookup, hence only in its row). In brackets: 95% confidence intervals."""


def results_table(all_results):
    """One row for each of the results and number of lookups, the intervals below the values: str."""
    width = max([len(_title(results, "64")) for results in all_results] + [8])
    first = all_results[0]
    lines = [
        f"{first['task']} {first['model']}, {first['database']}: {first['database_size']:,} items, "
        f"{first['which']} split",
        " ".join([" " * width, *(f"{name:^11}" for name in COLUMNS)]),
    ]
    for results in all_results:
        for title, cells in rows_of(results):
            lines.append(f"{title:{width}} " + " ".join(f"{value:^11}" for value, _ in cells))
            lines.append(" " * width + " " + " ".join(f"{interval:^11}" for _, interval in cells))
        if warning := collapse(results):
            lines.append(f"warning: {results['name']}: {warning}")
    return "\n".join(line.rstrip() for line in [*lines, LEGEND])


def rows_of(results):
    """The rows of the table: [(title, [(value, its interval or "") of each of `COLUMNS`])], all str."""
    rows = []
    for number, row in results.get("lookups", {"1": {"intervals": {}}}).items():
        if number == "1":
            row = {**row, **{k: results[k] for k in ("relevant_collision_rate", "irrelevant_collision_rate")}}
            row["intervals"] = {**results["intervals"], **row["intervals"]}
        rows.append((_title(results, number), [_cell(row, key) for key in COLUMNS.values()]))
    return rows


def collapse(results):
    """What is wrong where a tenth of all items have one fingerprint; None where they do not."""
    if results["largest_bucket"] > results["database_size"] // 10 > 0:
        share = results["largest_bucket"] / results["database_size"]
        return f"collapsed, {share:.0%} of the items have one fingerprint"
    return None


def in_training_line(step, which, results):
    """What train.py prints of an in-training evaluation."""
    recall, precision = (" ".join(f"{value:.3f}" for value in results[key]) for key in ("recall", "precision"))
    entropies = " ".join(f"{value:.2f}" for value in results["worst_entropies"].values())
    return (
        f"step {step} {which}: at Hamming 0 1 2 recall {recall} precision {precision}; "
        f"medians {results['positive_hamming_distances_median']} {results['negative_hamming_distances_median']}; "
        f"unique {results['nb_unique_codes']}/{results['nb_codes']}; worst entropies of 1-4 bits {entropies}"
    )


def _title(results, number):
    return f"{results['name']}, {number} lookup{'s' if number != '1' else ''}"


def _cell(row, key):
    """A value and its interval, as short as they can be."""
    if key not in row:
        return "-", ""
    low, high = row["intervals"].get(key, (None, None))
    if key == "irrelevant_collision_rate":
        return f"{row[key]:.1e}", f"[{low:.0e} {high:.0e}]".replace("e-0", "e-") if low is not None else ""
    return _rate(row[key]), f"[{_rate(low)} {_rate(high)}]" if low is not None else ""


def _rate(value):
    if math.isnan(value):
        return "-"
    return f"{value:.3f}".removeprefix("0") if value < 1 else "1.00"
