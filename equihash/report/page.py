"""report.html: everything about one evaluated database in one page that needs no other file and no network."""

import base64
import json
import struct

from jinja2 import Environment, PackageLoader, StrictUndefined

from equihash.command_line import command
from equihash.errors import Remedy
from equihash.evaluation.metrics import columns
from equihash.files import atomic
from equihash.report.tables import collapse, note, rows_of

# file name, heading, what is to be seen in it
CHARTS = [
    (
        "lookups.png",
        "Number of lookups",
        "Perfect retrieval rate, recall and false positive rate against the number of lookups a query.",
    ),
    (
        "database_sizes.png",
        "Size of the database",
        "Perfect retrieval rate and recall among the first 1,000, 10,000, ... items and among all: filled marks one "
        "lookup, open marks the most lookups. The queries of each size are those with a relevant item in it.",
    ),
    (
        "set_sizes.png",
        "Sizes of the retrieved sets",
        "How many items positive and negative queries retrieve, and how many are relevant to a positive query.",
    ),
    (
        "hamming_distances.png",
        "Hamming distances",
        "Hamming distances of the fingerprints of two instances of one class (positive) and of two classes (negative).",
    ),
]
GALLERY = [
    (
        "gallery.png",
        "Gallery",
        "Queries and what one lookup retrieved for each: perfect, incomplete and unsound answers. Blue frames are "
        "relevant items, orange ones irrelevant items, dashed grey ones relevant items that were missed.",
    ),
]
TRAINING = [
    ("training_curve.png", "Training curve", "Losses and in-training evaluations by step."),
    ("instances.png", "Training instances", "Some classes, a row each, with several noisy instances."),
]


def write_page(path, files, results):
    """Write the page, atomically, with the pictures that lie beside the results and beside the state.

    Parameters
    ----------
    path : Path
    files : DatabaseFiles
    results : dict
        What results.json holds.
    """
    environment = Environment(
        loader=PackageLoader("equihash.report", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made_by = dict(results["provenance"])
    fingerprints = dict(made_by.pop("fingerprints", {}))
    config = fingerprints.pop("config", files.experiment.config)
    html = environment.get_template("report.html.jinja").render(
        results=results,
        columns=columns(),
        note=note(),
        rows=rows_of(results),
        warning=collapse(results),
        charts=_pictures(files.folder, CHARTS),
        gallery=_pictures(files.folder, GALLERY),
        training=_pictures(files.experiment.folder, TRAINING),
        step=fingerprints.get("step"),
        config=json.dumps(config, indent=2),
        provenance=json.dumps({**made_by, "fingerprints": fingerprints}, indent=2),
        command=command(Remedy("report", files)),
    )
    with atomic(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def _pictures(folder, pictures):
    """Those of the pictures (name, heading, text) that are in the folder, as dicts for the template."""
    found = []
    for name, heading, text in pictures:
        if (folder / name).is_file():
            content = (folder / name).read_bytes()
            width, height = struct.unpack(">II", content[16:24])  # of a PNG, so that the page does not jump
            source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
            found.append({"source": source, "heading": heading, "text": text, "width": width, "height": height})
    return found
