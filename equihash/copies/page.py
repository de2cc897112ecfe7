"""The groups in one page that needs no other file and no network."""

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from equihash.copies.collection import Collection
from equihash.copies.groups import Group
from equihash.html import write_html
from equihash.image_files import UnreadableImage, read_scaled
from equihash.threads import NB_THREADS

MOST_GROUPS = 100
MOST_PICTURES = 12  # of a group
THUMBNAIL = 220  # pixels of the longer side


def write_page(path: Path, collection: Collection, groups: list[Group], nb_lookups: int, network: str) -> None:
    """Write the page, atomically: the 100 largest groups, 12 pictures at most of each.

    Parameters
    ----------
    path : Path
    collection : Collection
    groups : list of Group
        See `equihash.copies.groups.find_groups`.
    nb_lookups : int
    network : str
        What made the fingerprints.
    """
    shown = [[collection.pictures[row] for row in group.rows[:MOST_PICTURES]] for group in groups[:MOST_GROUPS]]
    with ThreadPoolExecutor(NB_THREADS) as pool:
        pictures = [list(pool.map(lambda p: _shown(collection.folder, p), each)) for each in shown]
    write_html(
        path,
        "equihash.copies",
        "copies.html.jinja",
        name=collection.folder.resolve().name or collection.folder,
        folder=collection.folder,
        nb_pictures=len(collection.pictures),
        groups=list(zip(groups, pictures)),
        nb_groups=len(groups),
        nb_grouped=sum(len(group.rows) for group in groups),
        unreadable=collection.unreadable,
        nb_lookups=nb_lookups,
        network=network,
    )


def _shown(folder, picture):
    """What the template shows of a picture. One that is gone by now has no source."""
    longer = max(picture.width, picture.height)
    size = [max(round(THUMBNAIL * side / longer), 1) for side in (picture.width, picture.height)]
    try:
        pixels, _ = read_scaled(folder / picture.name, THUMBNAIL)
    except (OSError, UnreadableImage):
        source = None
    else:
        content = io.BytesIO()
        Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR).save(content, "JPEG", quality=80)
        source = f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
    return {"picture": picture, "source": source, "width": size[0], "height": size[1]}
