"""Edited copies of photos: fingerprints looked up, against pHash, dHash and PDQ at a threshold.

python benchmarks/copies.py --photos FOLDER ...      (photos that the network was not trained on)
python benchmarks/copies.py --pairs 100000           (only the time to find all pairs among random fingerprints)

Each photo is edited in each way, weakly and strongly, and saved as JPEG. A copy is found if the fingerprint of its
original is among the looked up ones of the copy, or if their hashes are no farther apart than a threshold: the largest
that takes at most one in a million pairs of a copy and another photo for a copy. Needs: pip install imagehash pdqhash
faiss-cpu.
"""

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from equihash.command_line import run  # noqa: E402
from equihash.copies.collection import SUFFIXES  # noqa: E402
from equihash.copies.encoder import PictureEncoder  # noqa: E402
from equihash.experiment import Experiment  # noqa: E402
from equihash.image_files import list_image_files, read_image  # noqa: E402
from equihash.progress import progress_bar  # noqa: E402
from equihash.search import InvertedIndex, probe_codes  # noqa: E402

NB_LOOKUPS = (1, 16, 256)
FALSE_RATE = 1e-6
PICTURES_AT_ONCE = 100


def crop(image, part, rng):
    width, height = (round(side * (1 - part)) for side in image.size)
    left, top = (int(rng.integers(0, side - kept + 1)) for side, kept in zip(image.size, (width, height)))
    return image.crop((left, top, left + width, top + height))


def scale(image, factor, rng):
    return image.resize([max(round(side * factor), 8) for side in image.size], Image.Resampling.BICUBIC)


def aspect(image, factor, rng):
    return image.resize((round(image.width * factor), image.height), Image.Resampling.BICUBIC)


def rotation(image, degrees, rng):
    return image.rotate(degrees * rng.choice([-1, 1]), Image.Resampling.BICUBIC, fillcolor="white")


def brightness(image, factor, rng):
    return ImageEnhance.Brightness(image).enhance(factor)


def contrast(image, factor, rng):
    return ImageEnhance.Contrast(image).enhance(factor)


def saturation(image, factor, rng):
    return ImageEnhance.Color(image).enhance(factor)


def gamma(image, exponent, rng):
    return image.point([round(255 * (value / 255) ** exponent) for value in range(256)] * 3)


def blur(image, sigma, rng):
    return image.filter(ImageFilter.GaussianBlur(sigma))


def resampling(image, factor, rng):
    small = image.resize([max(side // factor, 8) for side in image.size], Image.Resampling.NEAREST)
    return small.resize(image.size, Image.Resampling.NEAREST)


def noise(image, deviation, rng):
    pixels = np.asarray(image, np.float32) + rng.normal(0, deviation, (image.height, image.width, 3))
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


def jpeg(image, quality, rng):
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return Image.open(content).convert("RGB")


def box(image, part, rng):
    width, height = (round(side * part) for side in image.size)
    left, top = (int(rng.integers(0, side - taken + 1)) for side, taken in zip(image.size, (width, height)))
    colour = tuple(rng.integers(0, 256, 3).tolist())
    image = image.copy()
    image.paste(colour, (left, top, left + width, top + height))
    return image


def text(image, part, rng):
    image = image.copy()
    font = ImageFont.load_default(max(round(image.height * part), 8))
    place = image.width / 20, float(rng.uniform(0, image.height * (1 - part)))
    ImageDraw.Draw(image).text(place, "a copy, edited", "white", font, stroke_width=1, stroke_fill="black")
    return image


def three(image, strength, rng):
    """Three other edits, one after the other."""
    for name in rng.choice(list(EDITS)[:-1], 3, replace=False):
        function, amounts = EDITS[name]
        image = function(image, amounts[strength], rng)
    return image


# of each: the function, and how much of it, weakly and strongly
EDITS: dict[str, tuple[Callable, tuple]] = {
    "crop": (crop, (0.08, 0.25)),
    "scale": (scale, (0.5, 0.25)),
    "aspect": (aspect, (1.15, 1.5)),
    "rotation": (rotation, (2, 8)),
    "brightness": (brightness, (1.25, 1.6)),
    "contrast": (contrast, (0.75, 0.5)),
    "saturation": (saturation, (0.5, 0.0)),
    "gamma": (gamma, (1.3, 2.0)),
    "blur": (blur, (1, 3)),
    "resampling": (resampling, (2, 4)),
    "noise": (noise, (8, 25)),
    "jpeg": (jpeg, (40, 10)),
    "box": (box, (0.15, 0.35)),
    "text": (text, (0.08, 0.2)),
    "three": (three, (0, 1)),
}
STRENGTHS = ("weak", "strong")


def phash(image):
    import imagehash

    return np.packbits(imagehash.phash(image).hash)


def dhash(image):
    import imagehash

    return np.packbits(imagehash.dhash(image).hash)


def pdq(image):
    import pdqhash

    return np.packbits(pdqhash.compute(np.asarray(image))[0].astype(bool))


HASHES = {"pHash": phash, "dHash": dhash, "PDQ": pdq}


def hashes_of(paths):
    """Return, of each of HASHES, the hashes of files, uint8 (n, bytes), and the seconds that it took."""
    hashes, seconds = {name: [] for name in HASHES}, dict.fromkeys(HASHES, 0.0)
    for path in paths:
        for name, function in HASHES.items():
            start = time.process_time()
            with Image.open(path) as image:
                hashes[name].append(function(image.convert("RGB")))
            seconds[name] += time.process_time() - start
    return {name: (np.stack(rows), seconds[name]) for name, rows in hashes.items()}


def make_copies(task):
    """Save copies of some originals, edited in all ways; return nothing. The same number gives the same copies."""
    originals, first, folder = task
    for number, original in enumerate(originals, first):
        image = Image.open(original).convert("RGB")
        for kind, (name, (function, amounts)) in enumerate(EDITS.items()):
            for strength, amount in enumerate(amounts):
                rng = np.random.default_rng([number, kind, strength])
                copy = function(image, amount, rng)
                copy.save(folder / f"{name}-{STRENGTHS[strength]}-{number:06}.jpg", quality=90)


def in_processes(pool, function, tasks, unit):
    return list(progress_bar(pool.map(function, tasks), total=len(tasks), unit=unit))


class Lookups:
    """Our fingerprints: a copy is found if its original is among what some lookups of the copy find."""

    def __init__(self, encoder, originals):
        self.encoder, self.nb_pictures, self.seconds = encoder, 0, 0.0
        self.index = InvertedIndex.build(np.packbits(self._logits(originals) > 0, axis=1))

    def count(self, copies):
        """Return, of each of NB_LOOKUPS, how many copies are found, and how many false pairs."""
        logits, n = self._logits(copies), len(copies)
        counts = []
        for nb_lookups in NB_LOOKUPS:
            offsets, found = self.index.lookup(probe_codes(logits, nb_lookups).reshape(n * nb_lookups, -1))
            of_copy = np.repeat(np.arange(n), np.diff(offsets[::nb_lookups]))
            right = int((of_copy == found).sum())
            counts.append((right, len(found) - right))
        return counts

    def _logits(self, paths):
        start = time.process_time()
        logits = np.stack([encoded.logits for encoded in self.encoder.encode(paths)])
        self.nb_pictures, self.seconds = self.nb_pictures + len(paths), self.seconds + time.process_time() - start
        return logits


class Thresholds:
    """A hash: how many pairs are at each distance, of copies and originals, and of copies and other photos."""

    def __init__(self, originals):
        self.originals = originals.view(np.uint64)
        self.nb_bits = 8 * originals.shape[1]
        self.right, self.false = {}, np.zeros(self.nb_bits + 1, np.int64)

    def add(self, edit, copies):
        copies = copies.view(np.uint64)
        distances = np.bitwise_count(copies[:, None] ^ self.originals).sum(2, dtype=np.int64)
        counts = np.bincount(distances.ravel(), minlength=self.nb_bits + 1)
        self.right[edit] = np.bincount(distances.diagonal(), minlength=self.nb_bits + 1)
        self.false += counts - self.right[edit]

    def largest(self, nb_false):
        """The largest distance up to which there are at most `nb_false` false pairs; -1 if not even equality has."""
        return int(np.searchsorted(self.false.cumsum(), nb_false, "right")) - 1

    def found(self, edit, threshold):
        return self.right[edit][: threshold + 1].sum() / self.right[edit].sum()


def compare(encoder, photos):
    """Print the share of the copies that each way finds, by edit."""
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        folder, n = Path(folder), len(photos)
        originals = []
        for number, photo in enumerate(photos):  # all as JPEG, so that all decoders are the same
            originals.append(folder / f"original-{number:06}.jpg")
            read_image(photo).save(originals[-1], quality=95)
        tasks = [(originals[i : i + PICTURES_AT_ONCE], i, folder) for i in range(0, n, PICTURES_AT_ONCE)]
        in_processes(pool, make_copies, tasks, "100 photos edited")
        kinds = [f"{name}-{strength}" for name in EDITS for strength in STRENGTHS]
        files = {kind: [folder / f"{kind}-{number:06}.jpg" for number in range(n)] for kind in kinds}
        results = in_processes(pool, hashes_of, [originals, *files.values()], "edit hashed")
        ways = {name: Thresholds(hashes) for name, (hashes, _) in results[0].items()}
        for kind, result in zip(kinds, results[1:]):
            for name, (hashes, _) in result.items():
                ways[name].add(kind, hashes)
        ours = Lookups(encoder, originals)
        counts = {kind: ours.count(files[kind]) for kind in progress_bar(kinds, unit="edit looked up")}
    nb_pairs = len(kinds) * n * (n - 1)
    thresholds = {name: way.largest(FALSE_RATE * nb_pairs) for name, way in ways.items()}
    print(f"{n} photos, {len(kinds) * n:,} copies, {nb_pairs:,} pairs of a copy and another photo")
    print(row("found", [f"{nb} lookups" for nb in NB_LOOKUPS] + [f"{name} <= {thresholds[name]}" for name in ways]))
    shares = {}
    for kind in kinds:
        shares[kind] = [right / n for right, _ in counts[kind]]
        shares[kind] += [way.found(kind, thresholds[name]) for name, way in ways.items()]
        print(row(kind.replace("-", ", "), [f"{share:.3f}" for share in shares[kind]]))
    for strength in STRENGTHS:
        means = np.mean([shares[kind] for kind in kinds if kind.endswith(strength)], axis=0)
        print(row(f"mean, {strength}", [f"{share:.3f}" for share in means]))
    print(row("mean", [f"{share:.3f}" for share in np.mean(list(shares.values()), axis=0)]))
    nb_false = [sum(counts[kind][i][1] for kind in kinds) for i in range(len(NB_LOOKUPS))]
    all_false = nb_false + [way.false[: thresholds[name] + 1].sum() for name, way in ways.items()]
    print(row("false pairs in a million", [f"{number / nb_pairs * 1e6:.2f}" for number in all_false]))
    seconds = [ours.seconds / ours.nb_pictures * 1e3] * len(NB_LOOKUPS)
    seconds += [sum(result[name][1] for result in results) / (len(results) * n) * 1e3 for name in ways]
    print(row("CPU ms a picture", [f"{value:.2f}" for value in seconds]))
    print("mean of the hashes at the thresholds with no more false pairs than ours:")
    for nb_lookups, number in zip(NB_LOOKUPS, nb_false):
        cells = [""] * len(NB_LOOKUPS)
        for way in ways.values():
            threshold = way.largest(number)
            cells.append(f"{np.mean([way.found(kind, threshold) for kind in kinds]):.3f} <= {threshold}")
        print(row(f"as with {nb_lookups} lookups", cells))


def row(name, cells):
    return f"{name:<25}" + "".join(f"{cell:>13}" for cell in cells)


def time_pairs(size):
    """Print the time to find all pairs among random fingerprints of 64 bits, and of 256 as PDQ's."""
    import faiss

    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (size, 8), dtype=np.uint8)
    for nb_lookups in NB_LOOKUPS[:2]:
        start = time.perf_counter()
        index = InvertedIndex.build(codes)
        for first in range(0, size, 2**18):
            some = codes[first : first + 2**18]
            if nb_lookups > 1:
                logits = np.where(np.unpackbits(some, axis=1), 1, -1) * rng.random((len(some), 64), np.float32)
                some = probe_codes(logits.astype(np.float32), nb_lookups).reshape(-1, 8)
            index.lookup(some)
        print(f"{size:,} fingerprints, {nb_lookups} lookups each: {time.perf_counter() - start:.2f} s", flush=True)
    for name, nb_bits, radius in (("64 bits, distance <= 6", 64, 6), ("256 bits, distance <= 31", 256, 31)):
        codes = rng.integers(0, 256, (size, nb_bits // 8), dtype=np.uint8)
        index = faiss.IndexBinaryFlat(nb_bits)
        index.add(codes)
        nb_queries = max(min(size, 10**11 // size // 10), 1)
        start = time.perf_counter()
        index.range_search(codes[:nb_queries], radius + 1)  # FAISS leaves out what is at the radius
        seconds = (time.perf_counter() - start) * size / nb_queries
        print(f"FAISS range search, {name}: {seconds:,.1f} s, by {nb_queries:,} queries", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--most", type=int, help="take only so many photos, evenly spread")
    parser.add_argument("-m", "--model", default="ShannonHamming")
    parser.add_argument("-v", "--variant")
    parser.add_argument("-i", "--variant_id", type=int)
    parser.add_argument("--pairs", type=int, metavar="N")
    arguments = parser.parse_args()
    if not arguments.photos and not arguments.pairs:
        parser.error("say what to measure: --photos or --pairs")
    needed = ("imagehash", "pdqhash") * bool(arguments.photos) + ("faiss",) * bool(arguments.pairs)
    if missing := [name for name in needed if not find_spec(name)]:
        parser.error(f"{', '.join(missing)} must be installed: pip install imagehash pdqhash faiss-cpu")
    if arguments.photos:
        photos = [folder / name for folder in arguments.photos for name in list_image_files(folder)]
        photos = [path for path in photos if path.name.lower().endswith(SUFFIXES)]
        if len(photos) < 2:
            parser.error("--photos must have two pictures or more")
        photos = photos[:: max(len(photos) // arguments.most, 1)] if arguments.most else photos
        experiment = Experiment("PictureCopies", arguments.model, arguments.variant, arguments.variant_id)
        compare(PictureEncoder(experiment, "cpu"), photos)
    if arguments.pairs:
        time_pairs(arguments.pairs)


if __name__ == "__main__":
    run(main)
