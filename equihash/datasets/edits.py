"""The edits that make a copy of a picture, for whole batches at once.

A copy is made as by somebody who passes a picture on: it is cropped, scaled, turned a little (one resampling), its
colours are changed, something is laid over it, it is made coarser and blurred, noise comes in, and it is saved as JPEG.

Blurring and coarsening act on rows and columns alike, and are products with one matrix a picture.

JPEG is approximated. Of the standard (ITU-T T.81) there are: YCbCr, the discrete cosine transform of blocks of 8 x 8,
and the example tables of its annex K, scaled by the quality as the Independent JPEG Group's library does. Coefficients
are rounded straight to multiples of the table. Left out are the sub-sampling of colour, the rounding of pixels between
the steps, and the size of the original: blocks are blocks of the instance, so that a quality does more harm here than
to a photo of a thousand pixels that is scaled down afterwards.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample


@dataclass(frozen=True)
class Edit:
    """An edit: the strength that it has by default, and the most that it can have."""

    strength: float
    most: float


# Amounts are uniform from -strength to strength; of those that have one direction, the absolute value counts.
EDITS = {
    "crop": Edit(0.4, 0.9),  # part of each side that is cut off
    "scale": Edit(0.15, 1.0),  # logarithm of a further zoom, out (with a plain frame around) or in
    "aspect": Edit(0.25, 1.0),  # logarithm of width by height, how much it changes
    "rotation": Edit(8.0, 180.0),  # degrees
    "brightness": Edit(0.25, 1.0),  # what is added, in units of white
    "contrast": Edit(0.5, 2.0),  # logarithm of a factor
    "saturation": Edit(0.8, 3.0),  # logarithm of a factor
    "gamma": Edit(0.5, 2.0),  # logarithm of the exponent
    "grey": Edit(0.6, 1.0),  # grey where the amount is above a quarter: the share is about 1/8 with the defaults
    "resampling": Edit(2.0, 15.0),  # pixels that are merged to one, in each direction, less one
    "blur": Edit(1.5, 20.0),  # standard deviation in pixels
    "noise": Edit(0.12, 1.0),  # standard deviation in units of white
    "jpeg": Edit(90.0, 99.0),  # 100 less the quality
    "overlay": Edit(0.6, 1.0),  # side of a box, or width of a strip with text, as a part of the picture's
}
GREY_FROM = 0.25
NB_DRAWS = 11  # uniform random numbers a copy: where it is cropped, and how the overlay looks
STRIP = 0.25  # height of a strip by its width
CHARACTER = 2  # pixels

LUMA = (0.299, 0.587, 0.114)
BLUE_SCALE, RED_SCALE = 1.772, 1.402  # of the colour differences of YCbCr
LUMINANCE_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE_TABLE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)


def edited(
    images: torch.Tensor, side: int, amounts: torch.Tensor, draws: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Return an edited copy of each image.

    Parameters
    ----------
    images : uint8 (n, s, s, 3)
    side : int
        Of the copies, a multiple of 8.
    amounts : float (n, len(EDITS))
        Of each edit, in the order of `EDITS`; 0 changes nothing.
    draws : float (n, NB_DRAWS)
        Uniform in [0, 1).
    generator
        Of the noise and the text, on the images' device.

    Returns
    -------
    uint8 (n, 3, side, side)
    """
    amount = dict(zip(EDITS, amounts[:, :, None, None, None].unbind(1)))  # each (n, 1, 1, 1)
    draw = draws[:, :, None, None, None].unbind(1)
    copies = _placed(images, side, amount, draw[:3])
    copies = _coloured(copies, amount)
    copies = _covered(copies, amount["overlay"].abs(), draw[3:], generator)
    copies = _coarsened(copies, amount["resampling"].abs(), amount["blur"].abs())
    noise = torch.randn(copies.shape, generator=generator, device=copies.device)
    copies = torch.addcmul(copies, noise, 255 * amount["noise"].abs())
    copies = jpeg(copies.clamp_(0, 255), 100 - amount["jpeg"].abs())
    return copies.clamp_(0, 255).round_().to(torch.uint8)


def _placed(images, side, amount, draw):
    """Crop, zoom, stretch and turn. What lies outside of the picture becomes black, white or a grey."""
    planes = images.permute(0, 3, 1, 2).float()
    kept = 1 - amount["crop"].abs()
    width = kept * torch.exp(-amount["scale"] + amount["aspect"] / 2)
    height = kept * torch.exp(-amount["scale"] - amount["aspect"] / 2)
    x, y = ((1 - kept) * (2 * place - 1) for place in draw[:2])
    angle = amount["rotation"] * (math.pi / 180)
    cosine, sine = angle.cos(), angle.sin()
    rows = [(width * cosine, -height * sine, x), (width * sine, height * cosine, y)]
    matrices = torch.stack([torch.cat(row, dim=1).flatten(1) for row in rows], dim=1)  # (n, 2, 3)
    frame = (383 * draw[2] - 64).clamp(0, 255)
    # Two by two points a pixel, averaged: a picture made smaller does not alias.
    grid = affine_grid(matrices, [len(images), 3, 2 * side, 2 * side], align_corners=False)
    return avg_pool2d(grid_sample(planes - frame, grid, align_corners=False), 2) + frame


def _coloured(copies, amount):
    """Change gamma, saturation, contrast and brightness."""
    exponent = amount["gamma"].exp()
    copies = 255 * (copies.clamp(0, 255) / 255).pow(exponent)
    luma = (copies * copies.new_tensor(LUMA).reshape(3, 1, 1)).sum(1, keepdim=True)
    colour = amount["saturation"].exp() * (amount["grey"].abs() <= GREY_FROM)
    contrast = amount["contrast"].exp()
    mean = luma.mean((2, 3), keepdim=True)
    # contrast * (luma + colour * (copies - luma) - mean) + mean + brightness
    offset = mean * (1 - contrast) + 255 * amount["brightness"]
    return (copies * (contrast * colour)).add_(luma * (contrast * (1 - colour)) + offset).clamp_(0, 255)


def _covered(copies, size, draw, generator):
    """Lay a plain box over each copy, or a strip with random characters: `size` is that of its longer side."""
    n, _, side, _ = copies.shape
    x_centre, y_centre, kind, *colours = draw
    with_text = kind < 0.5
    centres = (torch.arange(side, device=copies.device) + 0.5) / side
    columns, rows = centres.reshape(1, 1, 1, side), centres.reshape(1, 1, side, 1)
    height = torch.where(with_text, STRIP * size, size)
    covered = ((columns - x_centre).abs() < size / 2) & ((rows - y_centre).abs() < height / 2)
    shape = n, 1, side // CHARACTER, side // CHARACTER
    ink = (torch.rand(shape, generator=generator, device=copies.device) < 0.4) & with_text
    ink = ink.repeat_interleave(CHARACTER, 2).repeat_interleave(CHARACTER, 3)
    paper = 255 * torch.cat(colours[:3], dim=1)
    return torch.where(covered, torch.where(ink, 255 * (colours[3] < 0.5), paper), copies)


def _coarsened(copies, merged, sigma):
    """Average cells of 1 + `merged` pixels a side, as nearest-neighbour scaling down and up does, and blur."""
    side = copies.shape[-1]
    places = torch.arange(side, device=copies.device, dtype=copies.dtype)
    cells = (places / (1 + merged[:, 0])).floor()  # (n, 1, side)
    cells = (cells.mT == cells).to(copies.dtype)
    distances = (places[:, None] - places) / sigma[:, 0].clamp(min=0.1)
    weights = torch.exp(-(distances.square() / 2).clamp_(max=40))  # a CPU is slow with denormal numbers
    matrices = (weights / weights.sum(-1, keepdim=True)) @ (cells / cells.sum(-1, keepdim=True))
    return _transformed(copies, matrices, matrices)


def jpeg(images: torch.Tensor, quality: torch.Tensor) -> torch.Tensor:
    """Return what JPEG, as approximated here, leaves of images.

    Parameters
    ----------
    images : float (n, 3, h, w)
        Values in [0, 255]; sides are multiples of 8.
    quality : float (n, 1, 1, 1)
        From 1 to 100.

    Returns
    -------
    float (n, 3, h, w)
        Values may lie a little outside of [0, 255].
    """
    height, width = images.shape[2:]
    scale = torch.where(quality < 50, 50 / quality.clamp(min=1), 2 - quality / 50)
    tables = images.new_tensor([LUMINANCE_TABLE, CHROMINANCE_TABLE, CHROMINANCE_TABLE])
    tables = (tables * scale).round_().clamp_(1, 255).repeat(1, 1, height // 8, width // 8)
    vertical, horizontal = (_cosines(images, length) for length in (height, width))
    red, green, blue = (images - 128).unbind(1)  # grey stays grey, so that Y is shifted by 128, too
    luma = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
    planes = torch.stack([luma, (blue - luma) / BLUE_SCALE, (red - luma) / RED_SCALE], dim=1)
    coefficients = _transformed(planes, vertical, horizontal)
    coefficients = (coefficients / tables).round_().mul_(tables)
    luma, blueness, redness = _transformed(coefficients, vertical.T, horizontal.T).unbind(1)
    red, blue = luma + RED_SCALE * redness, luma + BLUE_SCALE * blueness
    green = (luma - LUMA[0] * red - LUMA[2] * blue) / LUMA[1]
    return torch.stack([red, green, blue], dim=1).add_(128)


def _transformed(planes, vertical, horizontal):
    """Multiply planes (n, c, h, w) by `vertical` from the left and by the transposed `horizontal` from the right.

    The matrices are square, one, or one for each of the n. Planes are stacked: few large products are faster.
    """
    channels = planes.shape[1]
    for matrices in (horizontal, vertical):
        planes = (planes.flatten(1, 2) @ matrices.mT).unflatten(1, (channels, -1)).mT
    return planes


def _cosines(like, length):
    """The orthonormal discrete cosine transform of each 8 of `length` values: (length, length), block diagonal."""
    places = torch.arange(length, device=like.device)
    frequencies, values = places[:, None] % 8, places % 8
    waves = torch.cos(math.pi / 8 * frequencies * (values + 0.5)) / 2
    waves = torch.where(frequencies == 0, math.sqrt(1 / 8), waves)
    return torch.where(places[:, None] // 8 == places // 8, waves, 0.0).to(like.dtype)
