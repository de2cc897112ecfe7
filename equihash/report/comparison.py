"""Collected results as a table: for a terminal, as Markdown, as CSV."""

import csv
import io
import math

from equihash.evaluation.metrics import METRICS, columns

LEGEND = "{} marks the best mean of a column among lines of as many lookups; ± is the standard deviation over seeds."


def format_lines(lines, form):
    """Return the table of a list of `Line` as text, `form` one of "terminal", "markdown" and "csv"."""
    return {"terminal": _terminal, "markdown": _markdown, "csv": _csv}[form](lines)


def _terminal(lines):
    title = max(len(line.name) for line in lines) + 2
    text = [" ".join([" " * title, "lookups seeds", *(f"{metric.short:^13}" for metric in columns())])]
    best, before = _best(lines), (None, None, None)
    for line in lines:
        this = line.model, line.variant, line.name
        if this[:2] != before[:2]:
            text.append(f"{line.model} {line.variant}")
        name, before = "" if this == before else f"  {line.name}", this
        numbers = f"{line.nb_lookups:>7} {line.nb_seeds:>5}"
        cells = [_cell(line, metric, "±", "*" * _is_best(line, metric, best)) for metric in columns()]
        text.append(" ".join([name.ljust(title), numbers, *(f"{cell:^13}" for cell in cells)]))
    return "\n".join(each.rstrip() for each in [*text, LEGEND.format("*")])


def _markdown(lines):
    head = ["model", "table", "configuration", "lookups", "seeds", *(metric.short for metric in columns())]
    rows = [head, ["---"] * 3 + ["---:"] * (len(head) - 3)]
    best = _best(lines)
    for line in lines:
        cells = []
        for metric in columns():
            cell = _cell(line, metric, " ± ", "")
            cells.append(f"**{cell}**" if _is_best(line, metric, best) else cell)
        rows.append([line.model, line.variant, line.name, str(line.nb_lookups), str(line.nb_seeds), *cells])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{table}\n\n{LEGEND.format('Bold')}"


def _csv(lines):
    """All digits, and a column for each spread; what there is none of is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [f"{metric.key}{part}" for metric in columns() for part in ("", "_std")]
    writer.writerow(["model", "variant", "configuration", "value", "nb_lookups", "nb_seeds", *names])
    for line in lines:
        pairs = [(line.mean.get(metric.key), line.spread.get(metric.key)) for metric in columns()]
        values = ["" if value is None or math.isnan(value) else value for pair in pairs for value in pair]
        value = "" if line.value is None else line.value
        writer.writerow([line.model, line.variant, line.name, value, line.nb_lookups, line.nb_seeds, *values])
    return text.getvalue().rstrip("\n")


def _mean(line, metric):
    return line.mean.get(metric.key, math.nan)


def _best(lines):
    """The best mean of each (number of lookups, metric) that two lines or more have."""
    found = {}
    for line in lines:
        for key, value in line.mean.items():
            if not math.isnan(value):
                found.setdefault((line.nb_lookups, key), []).append(value)
    return {
        (number, key): max(values) if METRICS[key].higher_is_better else min(values)
        for (number, key), values in found.items() if len(values) > 1
    }  # fmt: skip


def _is_best(line, metric, best):
    value = best.get((line.nb_lookups, metric.key), math.nan)
    return math.isclose(_mean(line, metric), value)  # but for rounding: means of several seeds


def _cell(line, metric, plus_minus, mark):
    """A mean, its mark and its spread, as short as they can be."""
    mean, spread = _mean(line, metric), line.spread.get(metric.key, math.nan)
    if math.isnan(mean):
        return "-"
    text = metric.format(mean) + mark
    return text if math.isnan(spread) else f"{text}{plus_minus}{metric.format(spread)}"
