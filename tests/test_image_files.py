"""Picture files of all kinds: their 8-bit pixels, or why they have none."""

import os
import socket
import struct
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL
import pytest
from PIL import Image, ImageFile

from equihash import image_files
from equihash.image_files import UnreadableImage, list_image_files, read_image

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOURS = np.stack([RAMP, RAMP[::-1], RAMP.T], axis=-1)
HALF = np.where(np.arange(16) < 8, 255, 0).astype(np.uint8) * np.ones((16, 1), np.uint8)  # an alpha: right is hidden
ON_WHITE = np.where(HALF[..., None] == 255, COLOURS, 255)
GREY_ON_WHITE = np.where(HALF == 255, RAMP, 255)
WITHOUT_7 = np.where(RAMP == 7, 255, RAMP)


def tiff(path, values, planes=False, compressed=False, order="<", **tags):
    """Write a TIFF file of one strip (or one a plane), as other software than Pillow does."""
    values = values.astype(values.dtype.newbyteorder(order))
    nb_bands = values.shape[2] if values.ndim == 3 else 1
    parts = [values[..., band] for band in range(nb_bands)] if planes else [values]
    strips = [zlib.compress(part.tobytes()) if compressed else part.tobytes() for part in parts]
    fields = {256: values.shape[1], 257: values.shape[0], 258: (8 * values.itemsize,) * nb_bands}
    fields |= {259: 8 if compressed else 1, 262: 2 if nb_bands == 3 else 1, 277: nb_bands, 278: values.shape[0]}
    fields |= {279: tuple(map(len, strips)), 284: 1 + planes, 339: ("uif".index(values.dtype.kind) + 1,) * nb_bands}
    fields |= {int(tag[1:]): value for tag, value in tags.items()}
    place, offsets = 8, []
    for strip in strips:
        offsets.append(place)
        place += len(strip) + len(strip) % 2
    fields[273] = tuple(offsets)
    content = b"".join(strip + b"\0" * (len(strip) % 2) for strip in strips)
    entries = b""
    for tag, value in sorted(fields.items()):
        value = value if isinstance(value, tuple) else (value,)
        packed = struct.pack(f"{order}{len(value)}I", *value)
        if len(value) > 1:
            content, packed = content + packed, struct.pack(f"{order}I", 8 + len(content))
        entries += struct.pack(f"{order}HHI", tag, 4, len(value)) + packed
    header = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8 + len(content))
    path.write_bytes(header + content + struct.pack(f"{order}H", len(fields)) + entries + bytes(4))


def png(path, values, mode, **options):
    Image.fromarray(values).convert(mode).save(path, "PNG", **options)


def deep_png(path, values, transparent=b"", colour=0):
    """Write 16-bit grey or colours."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    content = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    content += chunk(b"tRNS", transparent) if transparent else b""
    content += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def packed_12_bits(path, values):
    first, second = values.reshape(-1, 2).astype(int).T
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=-1).astype(np.uint8)
    tiff(path, packed.reshape(len(values), -1), t256=values.shape[1], t258=12)


def palette_and_alpha(path):
    image = Image.fromarray(RAMP).convert("PA")
    image.putalpha(Image.fromarray(HALF))
    image.save(path, "TIFF")


def numbers(dtype, factor):
    return RAMP.astype(dtype) * np.array(factor, dtype)


def alpha(*bands):
    return np.dstack([*bands, HALF])


READ = {
    "grey": (lambda path: png(path, RAMP, "L"), RAMP),
    "colour": (lambda path: png(path, COLOURS, "RGB"), COLOURS),
    "1 bit": (lambda path: png(path, HALF, "1"), HALF),
    "1 bit, transparent": (lambda path: png(path, RAMP[:, :8], "1", transparency=0), np.full((16, 8), 255)),
    "2 bits, transparent": (
        lambda path: Image.fromarray(RAMP // 64 * 85).save(path, "PNG", bits=2, transparency=1),
        np.where(RAMP // 64 == 1, 255, RAMP // 64 * 85),
    ),
    "CMYK": (lambda path: Image.fromarray(COLOURS).convert("CMYK").save(path, "TIFF"), COLOURS),
    "LAB": (
        lambda path: Image.new("LAB", (16, 16), (255, 0, 0)).save(path, "TIFF"),
        np.full((16, 16, 3), (0, 255, 255)),
    ),
    "float": (lambda path: tiff(path, RAMP / np.float32(255)), RAMP),
    "float, big-endian": (lambda path: tiff(path, RAMP / np.float32(255), order=">"), RAMP),
    "float PFM": (lambda path: Image.fromarray(RAMP / np.float32(255)).save(path, "PPM"), RAMP),
    "uint16": (lambda path: tiff(path, numbers(np.uint16, 257)), RAMP),
    "uint16, big-endian": (lambda path: tiff(path, numbers(np.uint16, 257), order=">"), RAMP),
    "uint16, compressed": (lambda path: tiff(path, numbers(np.uint16, 257), order=">", compressed=True), RAMP),
    "uint16, black": (lambda path: tiff(path, numbers(np.uint16, 0)), 0 * RAMP),
    "uint16 colours": (lambda path: tiff(path, COLOURS * np.uint16(257)), COLOURS),
    "uint16 PGM": (lambda path: Image.fromarray(numbers(np.uint16, 257)).save(path, "PPM"), RAMP),
    "uint16 JPEG 2000": (lambda path: Image.fromarray(numbers(np.uint16, 257)).save(path, "JPEG2000"), RAMP),
    "uint16 PNG": (lambda path: deep_png(path, numbers(np.uint16, 257)), RAMP),
    "uint16 PNG colours": (lambda path: deep_png(path, COLOURS * np.uint16(257), colour=2), COLOURS),
    "uint16 PNG, transparent": (
        lambda path: deep_png(path, numbers(np.uint16, 257), transparent=struct.pack(">H", 7 * 257)),
        WITHOUT_7,
    ),
    "int16": (lambda path: tiff(path, numbers(np.int16, 128)), RAMP),
    "int16, big-endian": (lambda path: tiff(path, numbers(np.int16, 128), order=">"), RAMP),
    "12 bits": (lambda path: packed_12_bits(path, numbers(np.uint16, 16)), RAMP),
    "12 bits in uint16": (lambda path: tiff(path, numbers(np.uint16, 16), t281=4095), RAMP),
    "12 bits in int16": (lambda path: tiff(path, numbers(np.int16, 16), t281=4095), RAMP),
    "8 bits in uint16": (lambda path: tiff(path, RAMP.astype(np.uint16), t281=255), RAMP),
    "16 bits in uint32": (lambda path: tiff(path, numbers(np.uint32, 257), t281=65535), RAMP),
    "12 bits in int32": (lambda path: tiff(path, numbers(np.int32, 16), t281=4095), RAMP),
    "RGBA": (lambda path: Image.fromarray(alpha(COLOURS)).save(path, "PNG"), ON_WHITE),
    "RGBA WebP": (lambda path: Image.fromarray(alpha(COLOURS)).save(path, "WEBP", lossless=True, exact=True), ON_WHITE),
    "RGBA of uint16": (lambda path: deep_png(path, alpha(COLOURS) * np.uint16(257), colour=6), ON_WHITE),
    "grey and alpha": (lambda path: Image.fromarray(alpha(RAMP)).save(path, "PNG"), GREY_ON_WHITE),
    "grey and alpha of uint16": (lambda path: deep_png(path, alpha(RAMP) * np.uint16(257), colour=4), GREY_ON_WHITE),
    "grey times alpha": (lambda path: tiff(path, alpha(RAMP), t338=1), GREY_ON_WHITE),
    "colour times alpha": (lambda path: tiff(path, alpha(COLOURS), t262=2, t338=1), ON_WHITE),
    "no alpha": (lambda path: tiff(path, alpha(COLOURS), t262=2, t338=0), COLOURS),
    "half transparent": (
        lambda path: Image.new("RGBA", (16, 16), (0, 0, 255, 51)).save(path, "PNG"),
        np.full((16, 16, 3), (204, 204, 255)),
    ),
    "palette": (lambda path: Image.fromarray(RAMP).convert("P").save(path, "PNG"), RAMP),
    "palette with one transparent": (
        lambda path: Image.fromarray(RAMP).convert("P").save(path, "PNG", transparency=7),
        WITHOUT_7,
    ),
    "palette with alpha": (
        lambda path: Image.fromarray(RAMP).convert("P").save(path, "PNG", transparency=bytes(range(256))),
        np.rint(RAMP * (RAMP / 255) + 255 * (1 - RAMP / 255)),
    ),
    "palette and alpha": (palette_and_alpha, GREY_ON_WHITE),
    "transparent GIF": (
        lambda path: Image.fromarray(RAMP).convert("P").save(path, "GIF", transparency=7, optimize=False),
        WITHOUT_7,
    ),
    "transparent grey": (lambda path: png(path, RAMP, "L", transparency=7), WITHOUT_7),
    "transparent colour": (lambda path: png(path, RAMP, "RGB", transparency=(7,) * 3), WITHOUT_7),
    "first of several": (
        lambda path: Image.fromarray(RAMP).save(path, "TIFF", save_all=True, append_images=[Image.new("L", (9, 9))]),
        RAMP,
    ),
}


@pytest.mark.parametrize("kind", READ)
def test_pixels(tmp_path, kind):
    if kind in ("2 bits, transparent", "grey times alpha") and int(PIL.__version__.split(".")[0]) < 13:
        pytest.skip("before 13, Pillow writes 2 bits of grey as 8, and knows no TIFF files of grey times alpha")
    write, expected = READ[kind]
    write(tmp_path / "picture")
    expected = np.broadcast_to(expected.T, (3, *expected.T.shape[-2:])).T
    found = read_image(tmp_path / "picture")
    assert found.mode == "RGB" and np.array_equal(np.asarray(found), expected)
    grey = read_image(tmp_path / "picture", "L")
    assert np.array_equal(np.asarray(grey), np.asarray(Image.fromarray(expected.astype(np.uint8)).convert("L")))
    top, left = found.height // 2 - 2, found.width // 2 - 2
    centre = read_image(tmp_path / "picture", centre=4)
    assert np.array_equal(np.asarray(centre), np.asarray(found)[top : top + 4, left : left + 4])


UNREAD = {
    "float to 255": (lambda path: tiff(path, RAMP.astype(np.float32)), "values from 0 to 255, not from 0 to 1"),
    "float below 0": (lambda path: tiff(path, RAMP / np.float32(255) - 1), "values from -1 to 0"),
    "NaN": (lambda path: tiff(path, np.where(RAMP == 9, np.nan, 0).astype(np.float32)), "nan"),
    "infinite": (lambda path: tiff(path, np.where(RAMP == 9, np.inf, 0).astype(np.float32)), "inf"),
    "int32": (lambda path: tiff(path, numbers(np.int32, 257)), "nothing says which is white"),
    "uint32": (lambda path: tiff(path, numbers(np.uint32, 2**24)), "nothing says which is white"),
    "int16 below 0": (lambda path: tiff(path, numbers(np.int16, 128) - np.int16(1)), "values from -1 to 32639"),
    "signed 8 bits": (lambda path: tiff(path, RAMP.astype(np.int8)), "signed"),
    "12 bits in uint16": (lambda path: tiff(path, numbers(np.uint16, 16)), "at most 4080"),
    "12 bits in int16": (lambda path: tiff(path, numbers(np.int16, 16)), "at most 4080"),
    "14 bits in uint16": (lambda path: tiff(path, numbers(np.uint16, 64)), "at most 16320"),
    "12 bits in PNG": (lambda path: deep_png(path, numbers(np.uint16, 16)), "at most 4080"),
    "12 bits in PNG colours": (lambda path: deep_png(path, COLOURS * np.uint16(16), colour=2), "at most 4095"),
    "12 bits in RGBA": (
        lambda path: deep_png(path, np.dstack([COLOURS * np.uint16(16), HALF * np.uint16(257)]), colour=6),
        "at most 4095",
    ),
    "12 bits in TIFF colours": (lambda path: tiff(path, COLOURS * np.uint16(16), t281=4095), "at most 4095"),
    "statistics": (lambda path: tiff(path, numbers(np.uint16, 16), t281=4080), "at most 4080"),
    "wrong maximum": (lambda path: tiff(path, numbers(np.uint16, 257), t281=4095), "not from 0 to 4095"),
    "inverted": (lambda path: tiff(path, numbers(np.uint16, 257), t262=0), "0 as white"),
    "inverted float": (lambda path: tiff(path, RAMP / np.float32(255), t262=0), "0 as white"),
    "planes": (lambda path: tiff(path, COLOURS * np.uint16(257), planes=True), "planes"),
    "big-endian": (lambda path: tiff(path, RAMP / np.float32(255), order=">", compressed=True), "big-endian"),
    "8-bit palette": (lambda path: tiff(path, RAMP, t262=3, t320=tuple(range(256)) * 3), "palette"),
    "transparent 16-bit colour": (
        lambda path: deep_png(path, COLOURS * np.uint16(257), transparent=bytes([0, 7] * 3), colour=2),
        "transparent",
    ),
    "other formats": (lambda path: Image.fromarray(RAMP / np.float32(255)).save(path, "SPIDER"), "SPIDER file"),
    "float64": (lambda path: tiff(path, RAMP / 255), "Pillow cannot read"),
    "text": (lambda path: path.write_text("no picture"), "Pillow cannot read"),
    "damaged": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20)), "broken|truncated|Pillow"),
    "folder": (lambda path: path.mkdir(), "not a regular file"),
    "pipe": (os.mkfifo, "not a regular file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
}


@pytest.mark.parametrize("kind", UNREAD)
def test_reasons(tmp_path, kind):
    write, reason = UNREAD[kind]
    write(tmp_path / "picture")
    with pytest.raises(UnreadableImage, match=reason):
        read_image(tmp_path / "picture")


def test_socket(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # its path may only be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        with pytest.raises(UnreadableImage, match="not a regular file"):
            read_image("socket")


def test_errors_of_the_system(tmp_path, monkeypatch):
    """They are no damage."""
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "none")
    Image.new("L", (9, 9)).save(tmp_path / "picture.png")
    for error in (PermissionError(13, "Permission denied"), OSError(5, "Input/output error"), MemoryError()):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr(Image, "open", fail)
        with pytest.raises(type(error)):
            read_image(tmp_path / "picture.png")


def test_large_pictures(tmp_path):
    """200 megapixels are read without a warning."""
    large = Image.new("1", (20_000, 10_000))
    large.paste(1, (10_000, 0, 20_000, 10_000))
    large.save(tmp_path / "large.tif", compression="group4")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        centre = read_image(tmp_path / "large.tif", "L", centre=4)
    assert np.array_equal(centre, [[0, 0, 255, 255]] * 4)


def test_limit_of_pillow(tmp_path, monkeypatch):
    """It is for everybody else what it was, and large pictures are decoded one at a time."""
    Image.fromarray(COLOURS).save(tmp_path / "picture.png")
    monkeypatch.setattr(image_files, "LARGE", 9)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9)
    decode, nb_inside, most_inside = ImageFile.ImageFile.load, 0, 0

    def watched(image):
        nonlocal nb_inside, most_inside
        nb_inside += 1
        most_inside = max(most_inside, nb_inside)
        time.sleep(0.01)
        nb_inside -= 1
        return decode(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", watched)
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(image, COLOURS) for image in pool.map(read_image, [tmp_path / "picture.png"] * 8))
    assert most_inside == 1
    with pytest.raises(Image.DecompressionBombError):
        Image.open(tmp_path / "picture.png")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_large_a_picture(tmp_path, monkeypatch):
    Image.new("1", (40, 30)).save(tmp_path / "picture.png")
    for most in (500, 1199):  # Pillow itself refuses the first
        monkeypatch.setattr(image_files, "MOST_PIXELS", most)
        with pytest.raises(UnreadableImage, match=f"more than {most:,} pixels"):
            read_image(tmp_path / "picture.png")
    monkeypatch.setattr(image_files, "MOST_PIXELS", 1200)
    assert read_image(tmp_path / "picture.png").size == (40, 30)


def test_links(tmp_path):
    """Links are followed, each folder once and never in a circle."""
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    (folder / "b").mkdir(parents=True)
    (elsewhere / "deep").mkdir(parents=True)
    for path in (folder / "b" / "1.png", elsewhere / "2.png", elsewhere / "deep" / "3.png", folder / ".4.png"):
        path.write_text("")
    (folder / "a").symlink_to(elsewhere)
    (folder / "c").symlink_to(elsewhere)
    (folder / "5.png").symlink_to(elsewhere / "2.png")
    (folder / "b" / "up").symlink_to(folder)
    (folder / "b" / "root").symlink_to(tmp_path)
    (elsewhere / "deep" / "itself").symlink_to(elsewhere)
    assert list_image_files(folder) == ["5.png", "a/2.png", "a/deep/3.png", "b/1.png"]


def test_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("a"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError):
        list_image_files(tmp_path)
