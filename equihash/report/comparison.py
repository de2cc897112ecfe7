"""Collected results as a table: for a terminal, as Markdown, as CSV."""

import csv
import io
import math

from equihash.report.tables import COLUMNS

LOW_IS_GOOD = ("false_positive_rate", "irrelevant_collision_rate")
LEGEND = "{} marks the best mean of a column among lines of as many lookups; ± is the standard deviation over seeds."


def format_lines(lines, form):
    """Return the table of a list of `Line` as text, `form` one of "terminal", "markdown" and "csv"."""
    return {"terminal": _terminal, "markdown": _markdown, "csv": _csv}[form](lines)


def _terminal(lines):
    title = max(len(line.name) for line in lines) + 2
    text = [" ".join([" " * title, "lookups seeds", *(f"{name:^13}" for name in COLUMNS)])]
    best, before = _best(lines), (None, None, None)
    for line in lines:
        this = line.model, line.variant, line.name
        if this[:2] != before[:2]:
            text.append(f"{line.model} {line.variant}")
        name, before = "" if this == before else f"  {line.name}", this
        numbers = f"{line.nb_lookups:>7} {line.nb_seeds:>5}"
        cells = [_cell(line, metric, "±", "*" * _is_best(line, metric, best)) for metric in COLUMNS.values()]
        text.append(" ".join([name.ljust(title), numbers, *(f"{cell:^13}" for cell in cells)]))
    return "\n".join(each.rstrip() for each in [*text, LEGEND.format("*")])


def _markdown(lines):
    head = ["model", "table", "configuration", "lookups", "seeds", *COLUMNS]
    rows = [head, ["---"] * 3 + ["---:"] * (len(head) - 3)]
    best = _best(lines)
    for line in lines:
        cells = []
        for metric in COLUMNS.values():
            cell = _cell(line, metric, " ± ", "")
            cells.append(f"**{cell}**" if _is_best(line, metric, best) else cell)
        rows.append([line.model, line.variant, line.name, str(line.nb_lookups), str(line.nb_seeds), *cells])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{table}\n\n{LEGEND.format('Bold')}"


def _csv(lines):
    """All digits, and a column for each spread; what there is none of is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [f"{metric}{part}" for metric in COLUMNS.values() for part in ("", "_std")]
    writer.writerow(["model", "variant", "configuration", "value", "nb_lookups", "nb_seeds", *columns])
    for line in lines:
        pairs = [(line.mean.get(metric), line.spread.get(metric)) for metric in COLUMNS.values()]
        values = ["" if value is None or math.isnan(value) else value for pair in pairs for value in pair]
        value = "" if line.value is None else line.value
        writer.writerow([line.model, line.variant, line.name, value, line.nb_lookups, line.nb_seeds, *values])
    return text.getvalue().rstrip("\n")


def _mean(line, metric):
    return line.mean.get(metric, math.nan)


def _best(lines):
    """The best mean of each (number of lookups, metric) that two lines or more have."""
    columns = {}
    for line in lines:
        for metric, value in line.mean.items():
            if not math.isnan(value):
                columns.setdefault((line.nb_lookups, metric), []).append(value)
    return {
        key: min(values) if key[1] in LOW_IS_GOOD else max(values) for key, values in columns.items() if len(values) > 1
    }


def _is_best(line, metric, best):
    value = best.get((line.nb_lookups, metric), math.nan)
    return math.isclose(_mean(line, metric), value)  # but for rounding: means of several seeds


def _cell(line, metric, plus_minus, mark):
    """A mean, its mark and its spread, as short as they can be."""
    mean, spread = _mean(line, metric), line.spread.get(metric, math.nan)
    if math.isnan(mean):
        return "-"
    text = _number(mean, metric) + mark
    return text if math.isnan(spread) else f"{text}{plus_minus}{_number(spread, metric)}"


def _number(value, metric):
    if metric == "irrelevant_collision_rate":
        return f"{value:.1e}".replace("e-0", "e-")
    return f"{value:.3f}".removeprefix("0") if value < 0.9995 else "1.00"
