"""Pictures that cost nothing and are free: dead leaves, and edited copies of them, as files.

The model is of Lee, Mumford and Huang, "Occlusion Models for Natural Images", IJCV 2001: things of random place and
colour that hide each other, their sizes distributed by a power law, which gives the statistics of photos. The edits are
made with Pillow, and not by what a network is trained on.
"""

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont

from equihash.errors import UserError
from equihash.files import atomic, exists
from equihash.progress import progress_bar

WIDTHS = (240, 400)  # pixels, and so are the heights
NB_LEAVES = 300
NB_POINTS = 24  # of the outline of an ellipse; polygons repeat some of theirs
RADII = (0.03, 0.6)  # of the longer side; the density is proportional to the radius to the power of -3


def prepare_dead_leaves(folder: str, nb_pictures: int, nb_copies: int, seed: int) -> None:
    """Write pictures `000000.jpg`, ... to a folder, and edited copies of the first ones to its sub-folder `copies`.

    A copy has the name of its original. Files that are there are kept, so that an interrupted run resumes: with the
    same seed, picture i is always the same. A `UserError` if there are to be more copies than pictures, or the seed is
    negative.
    """
    if not 0 <= nb_copies <= nb_pictures or nb_pictures < 1:
        raise UserError(f"there can be 0 to {nb_pictures} copies of {nb_pictures} pictures, not {nb_copies}")
    if seed < 0:
        raise UserError(f"the seed must be at least 0, not {seed}")
    folder = Path(folder)
    for number in progress_bar(range(nb_pictures), unit="picture"):
        paths = folder / f"{number:06}.jpg", folder / "copies" / f"{number:06}.jpg"
        if exists(paths[0]) and (number >= nb_copies or exists(paths[1])):
            continue
        generator = np.random.default_rng([seed, number])
        picture = draw_dead_leaves(generator)
        _save(picture, paths[0], 92)
        if number < nb_copies:
            _save(edited_copy(picture, generator), paths[1], int(generator.integers(40, 90)))


def draw_dead_leaves(generator: np.random.Generator) -> Image.Image:
    """Return a picture of random size: ellipses and polygons of a few colours, the later ones over the earlier."""
    width, height = generator.integers(*WIDTHS, 2, endpoint=True).tolist()
    nb_colours = generator.integers(3, 9)
    palette = generator.uniform(0, 255, (nb_colours, 1)) + generator.normal(0, 40, (nb_colours, 3))
    colours = palette[generator.integers(0, nb_colours, NB_LEAVES + 1)] + generator.normal(0, 18, (NB_LEAVES + 1, 3))
    ground, *colours = map(tuple, colours.clip(0, 255).astype(int).tolist())
    image = Image.new("RGB", (width, height), ground)
    draw = ImageDraw.Draw(image)
    smallest, largest = (radius * max(width, height) for radius in RADII)
    n, points = NB_LEAVES, np.arange(NB_POINTS)
    radii = generator.uniform(largest**-2, smallest**-2, (n, 1)) ** -0.5
    corners = np.where(generator.random((n, 1)) < 0.5, NB_POINTS, generator.integers(3, 7, (n, 1)))
    angles = 2 * math.pi * (points * corners // NB_POINTS / corners + generator.random((n, 1)))
    along, across = radii * np.cos(angles), radii * generator.uniform(0.4, 1, (n, 1)) * np.sin(angles)
    turns = generator.uniform(0, math.pi, (n, 1))
    xs = generator.uniform(0, width, (n, 1)) + along * np.cos(turns) - across * np.sin(turns)
    ys = generator.uniform(0, height, (n, 1)) + along * np.sin(turns) + across * np.cos(turns)
    for outline, colour in zip(np.stack([xs, ys], 2).reshape(n, -1).tolist(), colours):
        draw.polygon(outline, fill=colour)
    return image


def edited_copy(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Return a copy with two edits, by chance: cropped, scaled, turned, recoloured, grey, blurred, written upon."""
    edits = (_crop, _scale, _turn, _recolour, _grey, _blur, _write)
    for edit in generator.choice(len(edits), 2, replace=False):
        image = edits[edit](image, generator)
    return image


def _crop(image, generator):
    width, height = (side * generator.uniform(0.8, 1) for side in image.size)
    left, top = (generator.uniform(0, side - kept) for side, kept in zip(image.size, (width, height)))
    return image.crop((int(left), int(top), int(left + width), int(top + height)))


def _scale(image, generator):
    width, height = (max(round(side * factor), 16) for side, factor in zip(image.size, generator.uniform(0.4, 0.9, 2)))
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _turn(image, generator):
    return image.rotate(generator.uniform(-6, 6), Image.Resampling.BICUBIC, fillcolor="white")


def _recolour(image, generator):
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(generator.uniform(0.7, 1.4))
    return image


def _grey(image, generator):
    return image.convert("L").convert("RGB")


def _blur(image, generator):
    return image.filter(ImageFilter.GaussianBlur(generator.uniform(0.5, 3)))


def _write(image, generator):
    image = image.copy()
    size = max(image.height // 12, 8)
    place = generator.uniform(0, (image.width / 2, image.height - size)).tolist()
    ImageDraw.Draw(image).text(place, "a copy, edited", "white", ImageFont.load_default(size), stroke_width=1,
                               stroke_fill="black")  # fmt: skip
    return image


def _save(image, path, quality):
    with atomic(path) as temporary:
        image.save(temporary, "JPEG", quality=quality)
