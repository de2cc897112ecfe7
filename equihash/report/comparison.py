"""Collected results as a table: for a terminal, as Markdown, as CSV."""

import csv
import io
import math

from equihash.evaluation.collect import Line
from equihash.evaluation.metrics import METRICS, columns
from equihash.report.tables import markdown

LEGEND = "{} marks the best mean of a column among lines of as many lookups; ± is the standard deviation over seeds."


def format_lines(lines: list[Line], form: str) -> str:
    """Return the table as text, `form` one of "terminal", "markdown" and "csv"."""
    shown = columns([line.mean for line in lines])
    return {"terminal": _terminal, "markdown": _markdown, "csv": _csv}[form](lines, shown)


def _terminal(lines, shown):
    title = max(len(line.name) for line in lines) + 2
    text = [" ".join([" " * title, "lookups seeds", *(f"{metric.short:^13}" for metric in shown)])]
    before = None, None
    for line, cells in zip(lines, _cells(lines, shown)):
        table, this = f"{line.model} {line.variant}", (line.model, line.variant, line.name)
        if table != before[0]:
            text.append(table)
        name = "" if this == before[1] else f"  {line.name}"
        before = table, this
        texts = [mean + "*" * is_best + (f"±{spread}" if spread else "") for mean, spread, is_best in cells]
        numbers = f"{name:{title}} {line.nb_lookups:>7} {line.nb_seeds:>5}"
        text.append(" ".join([numbers, *(f"{cell:^13}" for cell in texts)]))
    return "\n".join(each.rstrip() for each in [*text, LEGEND.format("*")])


def _markdown(lines, shown):
    head = ["model", "table", "configuration", "lookups", "seeds", *(metric.short for metric in shown)]
    rows = []
    for line, cells in zip(lines, _cells(lines, shown)):
        texts = [(f"{mean} ± {spread}" if spread else mean, is_best) for mean, spread, is_best in cells]
        row = [line.model, line.variant, line.name, str(line.nb_lookups), str(line.nb_seeds)]
        rows.append(row + [f"**{text}**" if is_best else text for text, is_best in texts])
    return f"{markdown(head, rows, nb_names=3)}\n\n{LEGEND.format('Bold')}"


def _csv(lines, shown):
    """All digits, and a column for each spread; a cell without a value is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [f"{metric.key}{part}" for metric in shown for part in ("", "_std")]
    writer.writerow(["model", "variant", "configuration", "value", "nb_lookups", "nb_seeds", *names])
    for line in lines:
        pairs = [(line.mean.get(metric.key), line.spread.get(metric.key)) for metric in shown]
        values = [None if value is None or math.isnan(value) else value for pair in pairs for value in pair]
        writer.writerow([line.model, line.variant, line.name, line.value, line.nb_lookups, line.nb_seeds, *values])
    return text.getvalue().rstrip("\n")


def _cells(lines, shown):
    """Yield of each line for all columns the mean, the spread (empty if there is none) and whether the mean is best."""
    means = {}
    for line in lines:
        for key, value in line.mean.items():
            if not math.isnan(value):
                means.setdefault((line.nb_lookups, key), []).append(value)
    best = {
        (number, key): max(values) if METRICS[key].higher_is_better else min(values)
        for (number, key), values in means.items() if len(values) > 1
    }  # fmt: skip
    for line in lines:
        cells = []
        for metric in shown:
            mean, spread = (part.get(metric.key, math.nan) for part in (line.mean, line.spread))
            # means of several seeds may differ by rounding
            is_best = math.isclose(mean, best.get((line.nb_lookups, metric.key), math.nan))
            cells.append((metric.format(mean), "" if math.isnan(spread) else metric.format(spread), is_best))
        yield cells
