"""prepare_data.py: each sub-command, its interruptions and its refusals."""

import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest
from conftest import REPOSITORY
from PIL import Image
from torchvision.datasets import MNIST

from equihash.datasets import MnistMosaic, NoisyOpenImagesMosaic
from equihash.errors import UserError
from equihash.image_files import list_image_files, read_image
from equihash.prepare import mnist, openimages, perlin, picture_bank

SHIPPED = Path(__file__).parent.parent / mnist.PATH


@pytest.fixture
def place(workspace):
    """A workspace without data sets."""
    (workspace.folder / "data" / "datasets").unlink()
    return workspace


def picture(seed, height=200, width=190):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# --- MNIST


@pytest.fixture(scope="module")
def idx_files(tmp_path_factory):
    """The shipped digits as the four original files."""
    folder = tmp_path_factory.mktemp("idx")
    with h5py.File(SHIPPED) as file:
        content = {mnist.IMAGES: file["x"][:], mnist.LABELS: file["y"][:]}
    for files, values in content.items():
        for (name, shape, _), part in zip(files, (values[:60_000], values[60_000:]), strict=True):
            header = bytes([0, 0, 8, len(shape)]) + np.array(shape, dtype=">u4").tobytes()
            (folder / name).write_bytes(header + part.tobytes())
    return folder


def test_mnist_file_is_the_shipped_one(idx_files, place):
    with h5py.File(SHIPPED) as file:
        images, labels = file["x"][:], file["y"][:]
    place.check(["prepare_data.py", "mnist", "--source", idx_files])
    path = place.folder / mnist.PATH
    with h5py.File(path) as file:
        assert np.array_equal(file["x"], images) and np.array_equal(file["y"], labels)
    once = path.read_bytes()
    place.check(["prepare_data.py", "mnist", "--source", idx_files])
    assert path.read_bytes() == once
    assert MnistMosaic(path, which="test").bank_size == 10_000


def test_mnist_download(idx_files, place, monkeypatch):
    """From a mirror on this machine, after one that has nothing."""
    mirror = place.folder / "mirror"
    mirror.mkdir()
    for name in (file[0] for file in (*mnist.IMAGES, *mnist.LABELS)):
        (mirror / f"{name}.gz").write_bytes(gzip.compress((idx_files / name).read_bytes(), 1))
    with serving(partial(QuietHandler, directory=mirror)) as url:
        monkeypatch.setattr(MNIST, "mirrors", [f"{url}nothing/", url])
        place.check("prepare_data.py mnist")
    assert MnistMosaic(place.folder / mnist.PATH, which="test").bank_size == 10_000
    place.refuse("prepare_data.py mnist", "cannot be downloaded", "mnist --source FOLDER")


def answer(status, content=b"", **headers):
    """What a server does: send these."""

    def send(handler):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return send


@pytest.mark.parametrize(
    "reply",
    [
        lambda handler: handler.server.ended.wait(),
        lambda handler: handler.wfile.write(b"garbage\r\n"),
        answer(200, b"garbage"),
        answer(200, gzip.compress(b"garbage")),
        answer(200, gzip.compress(b"garbage")[:20]),
        answer(200, b"garbage", Content_Length="1000"),
        answer(302, Location="/again"),
        answer(302, Location="http://[/"),
        answer(302, Location="file:///etc/hostname"),
        answer(404),
    ],
    ids=["silent", "no HTTP", "no gzip", "no idx", "gzip cut", "reply cut", "redirect loop", "no URL", "file", "404"],
)
def test_mnist_from_a_bad_server(place, monkeypatch, reply):
    class Handler(QuietHandler):
        do_GET = do_HEAD = reply

    monkeypatch.setattr(mnist, "TIMEOUT", 0.3)
    monkeypatch.setattr(tempfile, "tempdir", str(place.folder))
    before = sorted(place.folder.rglob("*"))
    with serving(Handler) as url:
        monkeypatch.setattr(MNIST, "mirrors", [url])
        place.refuse("prepare_data.py mnist", "MNIST cannot be downloaded", url, "mnist --source FOLDER")
    assert sorted(place.folder.rglob("*")) == before


@contextmanager
def serving(handler):
    """Serve HTTP on this machine; yields the URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.ended = threading.Event()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.ended.set()
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def test_mnist_refuses_other_files(idx_files, place):
    name = mnist.LABELS[1][0]
    folder = place.folder / "idx"
    place.refuse(["prepare_data.py", "mnist", "--source", folder], "is not a folder")
    shutil.copytree(idx_files, folder)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + b"\x0b")
    place.refuse(["prepare_data.py", "mnist", "--source", folder], name, "MD5")
    (folder / name).write_bytes(content[:2] + b"\x0d" + content[3:])
    place.refuse(["prepare_data.py", "mnist", "--source", folder], name, "MD5")
    (folder / name).write_bytes(content[:-1])
    place.refuse(["prepare_data.py", "mnist", "--source", folder], name, "MD5")
    (folder / name).unlink()
    place.refuse(["prepare_data.py", "mnist", "--source", folder], f"neither {name} nor {name}.gz")
    (folder / f"{name}.gz").write_bytes(gzip.compress(content)[:-9])
    place.refuse(["prepare_data.py", "mnist", "--source", folder], f"{name}.gz cannot be read")
    assert not (place.folder / mnist.PATH).exists()


# --- images


@pytest.fixture
def pictures(place):
    """Pictures of several sizes, formats and modes, with a duplicate and two that cannot be read."""
    folder = place.folder / "pictures"
    (folder / "sub").mkdir(parents=True)
    Image.fromarray(picture(0)).save(folder / "b.png")
    Image.fromarray(picture(1, 400, 300)).save(folder / "sub" / "a.bmp")
    Image.fromarray(picture(2)[..., 0]).save(folder / "grey.tiff")
    Image.fromarray(picture(3, 50, 300)).save(folder / "small.png")
    Image.fromarray(picture(4)).convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(picture(5)[..., 0].astype(np.uint16) * 257).save(folder / "deep.png")
    Image.fromarray(picture(0)).save(folder / "copy.bmp")  # of b.png, which comes before
    (folder / "text.jpg").write_text("no picture")
    (folder / "cut.png").write_bytes((folder / "b.png").read_bytes()[:500])
    (folder / ".hidden").write_text("not looked at")
    return folder


ORDER = ["b.png", "cmyk.jpg", "deep.png", "grey.tiff", "small.png", "sub/a.bmp"]


def test_folder_to_bank(place, pictures):
    (pictures / "copy.bmp").rename(pictures / "z.bmp")
    output = place.check(["prepare_data.py", "openimages", "--source", pictures, "--split", "test"])
    assert "6 images; skipped 2 unreadable files and 1 duplicates" in output
    assert "skipped 'text.jpg'" in output and "skipped 'cut.png'" in output
    bank = place.folder / openimages.bank_path("test")
    with h5py.File(bank) as file:
        images = file["images"][:]
        assert file["images"].id.get_offset() is not None  # it can be mapped
    assert images.shape == (6, 180, 180, 3) and images.dtype == np.uint8
    assert np.array_equal(images[0], picture(0)[10:190, 5:185])
    assert np.array_equal(images[5], picture(1, 400, 300)[110:290, 60:240])
    assert np.array_equal(images[2], np.repeat(picture(5)[10:190, 5:185, :1], 3, axis=2))
    assert np.array_equal(images[3], np.repeat(picture(2)[10:190, 5:185, :1], 3, axis=2))
    centre = Image.fromarray(picture(3, 50, 300)[:, 125:175]).resize((180, 180), Image.Resampling.LANCZOS)
    assert np.array_equal(images[4], centre)
    assert sorted(file.name for file in bank.parent.iterdir()) == ["test.hdf5"]
    assert NoisyOpenImagesMosaic(bank.parent, None, which="test").bank_size == 6
    place.refuse(["prepare_data.py", "openimages", "--source", pictures, "--split", "test"], "--force")
    once = bank.read_bytes()
    place.check(["prepare_data.py", "openimages", "--source", pictures, "--split", "test", "-f"])
    assert bank.read_bytes() == once


def interrupt(pictures, output, name):
    """A run that is interrupted when it comes to one of the pictures."""

    def interrupted(path, centre):
        if path == pictures / name:
            raise KeyboardInterrupt
        return read_image(path, centre=centre)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openimages, "read_image", interrupted)
        with pytest.raises(KeyboardInterrupt):
            openimages.prepare_open_images(pictures, output)


@pytest.mark.parametrize("stop_after", range(7))
def test_an_interrupted_bank_resumes(tmp_path, pictures, monkeypatch, stop_after):
    expected = openimages.prepare_open_images(pictures, tmp_path / "whole.hdf5")
    unreadable = ["cut.png", "text.jpg"]
    readable = [name for name in list_image_files(pictures) if name not in unreadable]
    interrupt(pictures, tmp_path / "bank.hdf5", readable[stop_after])
    assert not (tmp_path / "bank.hdf5").exists()
    for kind, rest in (("partial", b"half an image"), ("journal", b'"half a li')):
        with open(tmp_path / f".bank.hdf5.{kind}", "ab") as file:
            file.write(rest)
    read = []

    def watched(path, centre):
        read.append(path)
        return read_image(path, centre=centre)

    monkeypatch.setattr(openimages, "read_image", watched)
    assert openimages.prepare_open_images(pictures, tmp_path / "bank.hdf5") == expected
    assert len(read) <= 9 - stop_after + len(unreadable)  # what was done is not done again
    assert (tmp_path / "bank.hdf5").read_bytes() == (tmp_path / "whole.hdf5").read_bytes()


@pytest.mark.parametrize("mended", ["cut.png", "text.jpg"])
@pytest.mark.parametrize("content", [6, 4])  # a picture of its own, and one that makes a later one a duplicate
def test_mended_pictures_are_taken(tmp_path, pictures, monkeypatch, mended, content):
    """An interrupted run met them while they were damaged."""
    Image.fromarray(picture(4)).save(pictures / "z.png")

    def interrupted(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(picture_bank, "create_hdf5", interrupted)
        openimages.prepare_open_images(pictures, tmp_path / "bank.hdf5")
    Image.fromarray(picture(content)).save(pictures / mended, "PNG")
    expected = openimages.prepare_open_images(pictures, tmp_path / "whole.hdf5")
    assert expected["unreadable"] == 1
    assert openimages.prepare_open_images(pictures, tmp_path / "bank.hdf5") == expected
    assert (tmp_path / "bank.hdf5").read_bytes() == (tmp_path / "whole.hdf5").read_bytes()


def test_a_changed_folder_starts_over(tmp_path, pictures):
    Image.fromarray(picture(9)).save(pictures / "a.png")
    interrupt(pictures, tmp_path / "bank.hdf5", list_image_files(pictures)[-1])
    (pictures / "a.png").unlink()
    counts = openimages.prepare_open_images(pictures, tmp_path / "bank.hdf5")
    assert counts == {"kept": 6, "duplicate": 1, "unreadable": 2}


def test_lost_images_are_made_again(tmp_path, pictures):
    """The journal survived a crash that the images did not."""
    openimages.prepare_open_images(pictures, tmp_path / "whole.hdf5")
    interrupt(pictures, tmp_path / "bank.hdf5", list_image_files(pictures)[-1])
    assert (tmp_path / ".bank.hdf5.partial").stat().st_size > 180 * 180 * 3
    (tmp_path / ".bank.hdf5.partial").write_bytes(b"")
    assert openimages.prepare_open_images(pictures, tmp_path / "bank.hdf5")["kept"] == 6
    assert (tmp_path / "bank.hdf5").read_bytes() == (tmp_path / "whole.hdf5").read_bytes()


def test_files_that_are_no_pictures(place):
    """Each is named with the reason; the terminal cannot show every name."""
    (place.folder / "elsewhere").mkdir()
    (place.folder / "pictures").mkdir()
    Image.fromarray(picture(1)).save(place.folder / "elsewhere" / "1.png")
    (place.folder / "pictures" / "linked").symlink_to(place.folder / "elsewhere")
    (place.folder / "pictures" / "linked" / "circle").symlink_to(place.folder / "pictures")
    (place.folder / "pictures" / "caf\u00e9.png").symlink_to("nowhere")
    os.mkfifo(place.folder / "pictures" / "pipe.png")
    Image.fromarray(picture(2)[..., 0] * np.uint16(16)).save(place.folder / "pictures" / "deep.png")
    command = [sys.executable, REPOSITORY / "prepare_data.py", "openimages", "--source", "pictures", "--split", "test"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    run = subprocess.run(command, cwd=place.folder, env=environment, capture_output=True, text=True, timeout=200)
    assert run.returncode == 0, run.stderr
    assert "skipped 'caf\\xe9.png': No such file or directory" in run.stdout
    assert "skipped 'pipe.png': not a regular file" in run.stdout
    assert "skipped 'deep.png': 16-bit values of at most 4080" in run.stdout
    assert "1 images; skipped 3 unreadable files and 0 duplicates" in run.stdout
    with h5py.File(place.folder / openimages.bank_path("test")) as file:
        assert np.array_equal(file["images"], picture(1)[None, 10:190, 5:185])


def test_too_little_memory(tmp_path, pictures, monkeypatch):
    """It does not make a picture unreadable."""

    def fail(path, centre):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(openimages, "read_image", fail)
        with pytest.raises(UserError, match="not enough memory to read .*b.png"):
            openimages.prepare_open_images(pictures, tmp_path / "bank.hdf5")
    assert openimages.prepare_open_images(pictures, tmp_path / "bank.hdf5")["kept"] == 6


def test_upright_pictures(tmp_path):
    (tmp_path / "in").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # a camera held upright: to be turned by 90 degrees
    Image.fromarray(picture(0, 180, 180)).save(tmp_path / "in" / "a.png", exif=exif)
    openimages.prepare_open_images(tmp_path / "in", tmp_path / "bank.hdf5")
    with h5py.File(tmp_path / "bank.hdf5") as file:
        assert np.array_equal(file["images"][0], np.rot90(picture(0, 180, 180), -1))


def test_refused_folders(place):
    place.refuse("prepare_data.py openimages --source nowhere --split test", "nowhere is not a folder")
    (place.folder / "some").mkdir()
    place.refuse("prepare_data.py openimages --source some --split test", "some is empty")
    (place.folder / "some" / "text.jpg").write_text("no picture")
    place.refuse("prepare_data.py openimages --source some", "--split")
    with pytest.raises(UserError, match="no readable picture"):
        openimages.prepare_open_images(place.folder / "some", place.folder / openimages.bank_path("test"))
    place.refuse("prepare_data.py openimages --split test", "--source", "--download")
    assert not list((place.folder / openimages.FOLDER).iterdir())


# --- noise maps


@pytest.mark.pictures
def test_perlin_file(place, monkeypatch):
    monkeypatch.setattr(perlin, "BATCH", 10)
    place.check("prepare_data.py perlin --nb_maps 25")
    path = place.folder / perlin.PATH
    with h5py.File(path) as file:
        maps = {name: file[name][:] for name in ("resolution1", "resolution2")}
        assert all(file[name].id.get_offset() is not None for name in maps)
    for name in maps:
        assert maps[name].shape == (25, 180, 270) and maps[name].dtype == np.int8
        assert 90 < np.abs(maps[name].astype(int)).max() <= 127
        assert len({one.tobytes() for one in maps[name]}) == 25
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, f"{path.stem}.png"]
    place.refuse("prepare_data.py perlin", "--force")
    place.check("prepare_data.py perlin --nb_maps 12 -f")
    with h5py.File(path) as file:
        assert all(np.array_equal(file[name], maps[name][:12]) for name in maps)
    place.refuse("prepare_data.py perlin -f --nb_maps 0", "at least 1")


def test_interrupted_maps_are_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr(perlin, "BATCH", 5)
    perlin.prepare_perlin(20, tmp_path / "whole.hdf5")
    made, draw = [], perlin.PerlinNoise.draw

    def interrupted(noise, *arguments):
        made.append(0)
        if len(made) == 6:
            raise KeyboardInterrupt
        return draw(noise, *arguments)

    monkeypatch.setattr(perlin.PerlinNoise, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        perlin.prepare_perlin(20, tmp_path / "maps.hdf5")
    with open(tmp_path / ".maps.hdf5.partial", "ab") as file:
        file.write(b"half a batch")
    perlin.prepare_perlin(20, tmp_path / "maps.hdf5")
    assert len(made) == 6 + 6  # the last batch that is there and the two left, of two resolutions
    assert (tmp_path / "maps.hdf5").read_bytes() == (tmp_path / "whole.hdf5").read_bytes()


def test_full_disk_is_seen_before(tmp_path):
    with pytest.raises(UserError, match="GB of free disk"):
        perlin.prepare_perlin(10**9, tmp_path / "maps.hdf5")


# --- downloads


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A stand-in for huggingface_hub: repositories are folders, and a download leaves its file as the client does."""
    root = tmp_path / "hub"
    client = ModuleType("huggingface_hub")

    def list_repo_files(repo_id, *, repo_type):
        assert repo_type == "dataset"
        if not (root / repo_id).is_dir():
            raise Exception(f"404 Client Error: {repo_id}\nmore lines")
        return [path.relative_to(root / repo_id).as_posix() for path in (root / repo_id).rglob("*") if path.is_file()]

    def hf_hub_download(repo_id, filename, *, repo_type, local_dir):
        assert repo_type == "dataset"
        record = local_dir / ".cache" / "huggingface" / "download" / f"{filename}.metadata"
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps({}))
        (local_dir / filename).parent.mkdir(parents=True, exist_ok=True)
        return str(shutil.copy(root / repo_id / filename, local_dir / filename))

    client.list_repo_files, client.hf_hub_download = list_repo_files, hf_hub_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)
    return root


def test_download(hub, place):
    images, maps = hub / openimages.REPOSITORY, hub / perlin.REPOSITORY
    for folder in (images / "data", maps):
        folder.mkdir(parents=True)
        (folder / "README.md").write_text("")
    for number, split in enumerate(("train", "valid", "test")):
        with h5py.File(images / "data" / f"{split}.hdf5", "w") as file:
            file["images"] = np.full((number + 2, 180, 180, 3), number, dtype=np.uint8)
    with h5py.File(maps / "perlin180x270.hdf5", "w") as file:
        file["resolution1"] = file["resolution2"] = np.zeros((3, 180, 270), dtype=np.int8)
    place.check("prepare_data.py openimages --download --split valid")
    place.check("prepare_data.py perlin --download")
    bank = place.folder / openimages.FOLDER
    assert [path.name for path in bank.iterdir()] == ["valid.hdf5"]
    assert NoisyOpenImagesMosaic(bank, place.folder / perlin.PATH, which="valid").bank_size == 3
    output = place.check("prepare_data.py openimages --download")  # goes on where it was stopped
    assert output.count("is there already") == 1 and output.count("wrote") == 2
    place.check("prepare_data.py openimages --download -f")
    assert sorted(path.name for path in bank.iterdir()) == ["test.hdf5", "train.hdf5", "valid.hdf5"]


def test_failed_downloads(hub, place):
    place.refuse("prepare_data.py perlin --download", "cannot be downloaded: 404")
    folder = hub / perlin.REPOSITORY
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("")
    place.refuse("prepare_data.py perlin --download", "it holds: README.md")
    with h5py.File(folder / "perlin.h5", "w") as file:
        file["resolution1"] = np.zeros((3, 180, 270), dtype=np.int8)
    place.refuse("prepare_data.py perlin --download", "does not hold `resolution2`")
    assert not (place.folder / perlin.PATH).exists()


def test_download_without_the_client(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    place.refuse("prepare_data.py openimages --download", "pip install huggingface_hub")
