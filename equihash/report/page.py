"""report.html: everything about one evaluated database in one page that needs no other file and no network."""

import base64
import json
import struct
from dataclasses import dataclass
from pathlib import Path

from equihash.command_line import command
from equihash.errors import Remedy
from equihash.evaluation.metrics import METRICS, columns
from equihash.experiment import DatabaseFiles
from equihash.files import exists
from equihash.html import write_html
from equihash.report.charts import OF_LOOKUPS, OF_SIZES
from equihash.report.tables import collapse, note, rows_of


@dataclass(frozen=True)
class Picture:
    """A picture of the page."""

    name: str  # of the file
    heading: str
    text: str

    def inline(self, folder: Path) -> dict:
        """What the template shows."""
        content = (folder / self.name).read_bytes()
        width, height = struct.unpack(">II", content[16:24])  # of a PNG, so that the page does not jump
        source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
        return {"source": source, "heading": self.heading, "text": self.text, "width": width, "height": height}


def _rates(curves):
    *names, last = (METRICS[key].name for key in curves)
    return f"{', '.join(names)} and {last}".capitalize()


CHARTS = [
    Picture("lookups.png", "Number of lookups", f"{_rates(OF_LOOKUPS)} against the number of lookups per query."),
    Picture("database_sizes.png", "Size of the database",
            f"{_rates(OF_SIZES)} among the first 1,000, 10,000, ... items and among all: filled marks one lookup, open "
            "marks the most lookups. The queries of each size are those with a relevant item in it."),
    Picture("set_sizes.png", "Sizes of the retrieved sets",
            "How many items positive and negative queries retrieve, and how many are relevant to a positive query."),
    Picture("hamming_distances.png", "Hamming distances",
            "Hamming distances of the fingerprints of two instances of one class (positive) and of two classes "
            "(negative)."),
]  # fmt: skip
GALLERY = [
    Picture("gallery.png", "Gallery",
            "Queries and what one lookup retrieved for each: perfect, incomplete and unsound answers. Blue frames are "
            "relevant items, orange ones irrelevant items, dashed grey ones relevant items that were missed."),
]  # fmt: skip
TRAINING = [
    Picture("training_curve.png", "Training curve", "Losses and in-training evaluations by step."),
    Picture("instances.png", "Training instances", "Some classes, a row each, with several noisy instances."),
]


def write_page(path: Path, files: DatabaseFiles, results: dict):
    """Write the page, atomically, with the pictures that lie beside the results and beside the state."""
    made_by = dict(results["provenance"])
    fingerprints = dict(made_by.pop("fingerprints", {}))
    config = fingerprints.pop("config", files.experiment.config)
    shown = columns([results])
    write_html(
        path,
        "equihash.report",
        "report.html.jinja",
        results=results,
        columns=shown,
        note=note(shown),
        rows=rows_of(results, shown),
        warning=collapse(results),
        charts=_inline(files.folder, CHARTS),
        gallery=_inline(files.folder, GALLERY),
        training=_inline(files.experiment.folder, TRAINING),
        step=fingerprints.get("step"),
        config=json.dumps(config, indent=2),
        provenance=json.dumps({**made_by, "fingerprints": fingerprints}, indent=2),
        command=command(Remedy("report", files)),
    )


def _inline(folder, pictures):
    return [picture.inline(folder) for picture in pictures if exists(folder / picture.name)]
