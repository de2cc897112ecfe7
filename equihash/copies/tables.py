"""The groups as CSV, for spreadsheets, and as JSON, for programs."""

import csv
from pathlib import Path

from equihash.copies.collection import Collection
from equihash.copies.groups import Group
from equihash.files import atomic, write_json

COLUMNS = ("group", "path", "width", "height", "bytes")


def write_csv(path: Path, collection: Collection, groups: list[Group]) -> None:
    """Write a line for each picture of each group, atomically. Groups are numbered from 1, paths are relative."""
    # names of any bytes come back as they are
    with (
        atomic(path) as temporary,
        open(temporary, "w", newline="", errors="surrogateescape", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number, group in enumerate(groups, 1):
            for picture in _pictures(collection, group):
                writer.writerow((number, picture.name, picture.width, picture.height, picture.nb_bytes))


def write_groups_json(path: Path, collection: Collection, groups: list[Group], nb_lookups: int) -> None:
    """Write the groups and the files that could not be read, atomically."""
    content = {
        "folder": str(collection.folder),
        "nb_lookups": nb_lookups,
        "nb_pictures": len(collection.pictures),
        "groups": [
            [dict(zip(COLUMNS[1:], (p.name, p.width, p.height, p.nb_bytes))) for p in _pictures(collection, group)]
            for group in groups
        ],
        "unreadable": collection.unreadable,
    }
    write_json(path, content)


def _pictures(collection, group):
    return [collection.pictures[row] for row in group.rows]
