"""Picture files of any format as 8-bit pixels."""

import errno
import os
import re
import stat
import threading
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import BITSPERSAMPLE, COLORMAP, PHOTOMETRIC_INTERPRETATION, PLANAR_CONFIGURATION, SAMPLEFORMAT

MAX_SAMPLE_VALUE = 281  # a TIFF tag
ORIENTATION = 0x112  # an EXIF tag

MOST_PIXELS = 10**9
LARGE = 10**8  # pixels; larger pictures are decoded one at a time
DEPTHS = 2**14  # if all 16-bit values are below, they may have 10, 12 or 14 bits, as those of cameras do


class UnreadableImage(Exception):
    """See `read_image`."""


def list_image_files(folder: Path) -> list[str]:
    """Return the paths, relative to a folder, of all files in it and its sub-folders that are not hidden.

    They are sorted by their parts. Links to folders are followed, but each folder is listed only once, and those that
    contain `folder` are not. An `OSError` if a folder cannot be listed.
    """

    def stop(error):
        raise error

    seen = set(Path(folder).resolve().parents)
    names = []
    for place, folders, files in os.walk(folder, onerror=stop, followlinks=True):
        real = Path(place).resolve()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names += [(Path(place) / name).relative_to(folder) for name in files if not name.startswith(".")]
    return [name.as_posix() for name in sorted(names)]


def read_image(path: Path, mode: str = "RGB", centre: int | None = None) -> Image.Image:
    """Read the first picture of a file, upright, with 8 bits a band.

    - Up to 8 bits a band: as Pillow reads them. Palettes, CMYK, YCbCr and LAB are converted; colour profiles are
      ignored.
    - Transparency of any kind is put on white.
    - 12 or 16 bits: the 8 highest bits. Signed 16-bit values have 15 bits and may not be negative. MaxSampleValue in a
      TIFF file says how many bits are used, if it is 255, 511, ... or 65535. Without it, 16-bit values that all fit
      into 14 bits are refused: the picture may be dark, or have 10, 12 or 14 bits.
    - Floats: 0 is black and 1 is white. Values outside of this range or not finite are refused.
    - 32-bit integers: refused unless MaxSampleValue says how many bits are used.
    - What Pillow is known to misread is refused.

    A picture can have up to 10^9 pixels. Those with more than 10^8 are decoded one at a time.

    Parameters
    ----------
    path
    mode : "RGB" or "L"
    centre
        Return only the centre: a square with at most this many pixels a side.

    Raises
    ------
    UnreadableImage
        The file is not a picture, is damaged, or does not say which value is white.
    OSError
        The system cannot read the file.
    """
    with _opened(path) as image:
        return _to_8_bits(image, centre).convert(mode)


def read_scaled(path: Path, side: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Read the whole first picture of a file, upright, scaled to a square, whatever its shape.

    The rules and the errors are those of `read_image`. JPEG files are decoded at an eighth, a quarter or half of their
    size where that is enough.

    Parameters
    ----------
    path
    side
        Of the square, in pixels.

    Returns
    -------
    pixels : uint8 (side, side, 3)
    size : (int, int)
        Width and height of the picture in the file, upright, in pixels.
    """
    with _opened(path) as image:
        width, height = image.size
        # the orientations that turn it by a quarter; of a TIFF file Pillow gives the upright size
        if image.format != "TIFF" and image.getexif().get(ORIENTATION) in (5, 6, 7, 8):
            width, height = height, width
        image.draft(None, (side, side))
        scaled = _to_8_bits(image, None).convert("RGB")
        scaled = scaled.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2)
        return np.asarray(scaled), (width, height)


@contextmanager
def _opened(path):
    """Open a picture file; what it is used for must be done within, where errors become those of `read_image`."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise UnreadableImage("not a regular file")  # reading a pipe could block forever
    try:
        with _pillow_reads_large_pictures(), Image.open(path) as image:
            nb_pixels = image.width * image.height
            if nb_pixels > MOST_PIXELS:
                raise Image.DecompressionBombError
            with _one_at_a_time if nb_pixels > LARGE else nullcontext():
                yield image
    except Image.UnidentifiedImageError:
        raise UnreadableImage("not a picture, or of a kind that Pillow cannot read") from None
    except Image.DecompressionBombError:
        raise UnreadableImage(f"more than {MOST_PIXELS:,} pixels") from None
    except (UnreadableImage, MemoryError):
        raise
    except Exception as error:  # a damaged file can make a decoder raise anything
        # Pillow's own errors have no number; a damaged file can make it seek to a place before the file
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise UnreadableImage(str(error) or type(error).__name__) from error


_one_at_a_time = threading.Lock()
_limit = threading.Lock()
_nb_readers, _usual_limit = 0, None


@contextmanager
def _pillow_reads_large_pictures():
    """Set Pillow's limit on pixels, which is global, to `MOST_PIXELS` while some thread is in this context."""
    global _nb_readers, _usual_limit
    with _limit:
        if not _nb_readers:
            _usual_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, MOST_PIXELS
        _nb_readers += 1
    try:
        yield
    finally:
        with _limit:
            _nb_readers -= 1
            if not _nb_readers:
                Image.MAX_IMAGE_PIXELS = _usual_limit


def _to_8_bits(image, centre):
    """Load an opened picture and return its centre, in mode "L" or "RGB"."""
    coding = str(image.tile)  # how pixels are stored, "RGB;16B" for example: Pillow forgets it when it loads them
    if image.format == "TIFF":
        _check_tiff(image)
    ImageOps.exif_transpose(image, in_place=True)
    transparent = image.info.get("transparency")
    deep = image.mode.startswith(("I", "F"))
    if deep:
        white = _white(image)
    elif re.search(";16[BLN]", coding):  # Pillow has kept the 8 highest bits
        extremes = dict(zip(image.getbands(), np.reshape(image.getextrema(), (-1, 2)).tolist()))
        _check_depth(max((high << 8) + 255 for band, (_, high) in extremes.items() if band != "A"))
        if transparent is not None:
            raise UnreadableImage("a 16-bit colour is transparent, which Pillow misreads: convert it to 8 bits")
    if centre is not None:
        side = min(*image.size, centre)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    if deep:
        values = np.asarray(image)
        pixels = np.rint(values * 255) if image.mode == "F" else values.astype(np.int64) * 256 // (white + 1)
        if transparent is not None:
            pixels[values == transparent] = 255
        return Image.fromarray(pixels.astype(np.uint8))
    if image.has_transparency_data:
        bits = re.search("'L;([24])'", coding)
        if bits and transparent is not None:  # Pillow has scaled the greys to 8 bits, but not this one
            image.info["transparency"] = transparent * 255 // (2 ** int(bits[1]) - 1)
        image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "L" else image.convert("RGB")


def _check_tiff(image):
    """Refuse the TIFF files that Pillow misreads."""
    tags, mode, compressed = image.tag_v2, image.mode, image.tile[0][0] == "libtiff"
    inverted = tags.get(PHOTOMETRIC_INTERPRETATION) == 0
    odd = inverted or tags.get(BITSPERSAMPLE, (1,))[0] != 8
    misread = {
        "0 as white and more than 8 bits": inverted and mode in ("I;16", "F"),
        "compressed big-endian values": compressed and tags.prefix == b"MM" and mode in ("I", "F"),
        "signed values of 8 bits": mode == "L" and tags.get(SAMPLEFORMAT, (1,))[0] == 2,
        "planes that are not of 8 bits": odd and tags.get(PLANAR_CONFIGURATION) == 2 and not compressed,
        "a palette of 8 bits": mode in ("P", "PA") and max(tags[COLORMAP]) < 256,
    }
    for what, found in misread.items():
        if found:
            raise UnreadableImage(f"a TIFF file with {what}, which Pillow misreads: convert it to 8 bits a band")


def _white(image):
    """Return the value of white in a loaded picture of one band with more than 8 bits."""
    if image.format not in ("JPEG2000", "PNG", "PPM", "TIFF"):
        raise UnreadableImage(f"more than 8 bits in a {image.format} file: convert it to 8 bits")
    white = 65535  # Pillow scales all formats but TIFF to this
    if image.mode == "F":
        white = 1
    elif image.format == "TIFF":
        bits = image.tag_v2[BITSPERSAMPLE][0] - (image.tag_v2.get(SAMPLEFORMAT, (1,))[0] == 2)
        white = image.tag_v2.get(MAX_SAMPLE_VALUE, (0,))[0]
        if white not in [2**used - 1 for used in range(8, 17)]:  # absent, or the highest value in the picture
            if bits > 16:
                raise UnreadableImage("32-bit integers, and nothing says which is white: convert it to 8 bits")
            white = 2**bits - 1
    low, high = _extremes(image)
    if not 0 <= low <= high <= white:  # false for NaN, too
        raise UnreadableImage(f"values from {low:g} to {high:g}, not from 0 to {white}: convert it to 8 bits")
    if high and white > DEPTHS:
        _check_depth(high)
    return white


def _check_depth(highest):
    """Refuse 16-bit values that may be dark or may have fewer bits."""
    if highest < DEPTHS:
        reason = f"16-bit values of at most {highest}: it may be dark, or have fewer bits; convert it to 8 bits"
        raise UnreadableImage(reason)


def _extremes(image):
    """Return the lowest and highest value of a picture of one band, in strips because numpy makes copies."""
    strips = (image.crop((0, top, image.width, min(top + 256, image.height))) for top in range(0, image.height, 256))
    lows, highs = zip(*((np.min(strip), np.max(strip)) for strip in map(np.asarray, strips)))
    return np.min(lows), np.max(highs)
