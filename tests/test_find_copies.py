"""find_copies.py: a folder's pictures, what is kept of them, their groups and the page."""

import csv
import errno
import json
import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from conftest import Workspace

from equihash.copies import collection as module
from equihash.copies.collection import Collection, Picture, home_of, update_collection
from equihash.copies.encoder import PictureEncoder
from equihash.copies.groups import find_copies, find_groups
from equihash.copies.page import write_page
from equihash.errors import Damaged, UserError
from equihash.experiment import Experiment
from equihash.image_files import read_scaled
from equihash.prepare.dead_leaves import draw_dead_leaves
from equihash.prepare.pictures import prepare_pictures

QUICK = ["-d", "cpu", "-a", "nb_steps:10", "eval_freq:10", "eval_size:8", "loader_kwargs:size:8"]
QUICK += [
    "loader_kwargs:path:banks",
    "trainer_kwargs:nb_batch_per_step:2",
    "network_kwargs:width:8",
    "network_kwargs:k:32",
]
HOME = "data/experiments/PictureCopies/ShannonHamming/main/current"


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A workspace with a hardly trained network of 64 bits: of these pictures, only the same pixels collide."""
    shop = Workspace(tmp_path_factory.mktemp("workspace"))
    for number in range(4):
        (shop.folder / "some").mkdir(exist_ok=True)
        draw(number).save(shop.folder / "some" / f"{number}.png")
    for split in ("train", "valid"):
        prepare_pictures(shop.folder / "some", shop.folder / "banks" / f"{split}.hdf5", side=64)
    shop.check(["train.py", "PictureCopies", "ShannonHamming", *QUICK])
    return shop


def draw(number):
    return draw_dead_leaves(np.random.default_rng(number))


@pytest.fixture
def folder(shop, request):
    """Three pictures, two exact copies of one, one of another, and files that cannot be read."""
    folder = shop.folder / f"pictures_{abs(hash(request.node.name))}"
    (folder / "sub").mkdir(parents=True)
    for number in range(3):
        draw(number).save(folder / f"{number}.png")
    draw(1).save(folder / "sub" / "copy, of 1.tiff")
    draw(1).save(folder / "sub" / "b&w <1>.webp", lossless=True)
    draw(2).save(folder / "sub" / "2.bmp")
    (folder / "sub" / "text.jpg").write_text("no picture")
    (folder / "notes.txt").write_text("not named as a picture")
    return folder


@pytest.fixture
def encoder(shop):
    with shop.inside():
        return PictureEncoder(Experiment("PictureCopies", "ShannonHamming"), "cpu")


def names_of(collection, groups):
    return [sorted(collection.pictures[row].name for row in group.rows) for group in groups]


EXPECTED = [["1.png", "sub/b&w <1>.webp", "sub/copy, of 1.tiff"], ["2.png", "sub/2.bmp"]]


def snapshot(folder):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_groups_tables_and_page(shop, folder):
    before = snapshot(folder)
    output = shop.check(["find_copies.py", folder, "-d", "cpu"])
    assert snapshot(folder) == before  # nothing is changed, deleted or added
    assert "6 pictures; 7 files were new or changed, 0 are gone" in output
    assert "2 groups of copies, with 5 pictures" in output
    assert "not read: 'sub/text.jpg': not a picture" in output and "notes.txt" not in output
    (home,) = (shop.folder / HOME).glob(f"copies_{folder.name}_*")
    with open(home / "copies.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [sorted(row["path"] for row in rows if row["group"] == group) for group in "12"] == EXPECTED
    size = draw(1).size
    assert {(row["width"], row["height"]) for row in rows if row["group"] == "1"} == {tuple(map(str, size))}
    content = json.loads((home / "copies.json").read_text())
    assert [sorted(picture["path"] for picture in group) for group in content["groups"]] == EXPECTED
    assert list(content["unreadable"]) == ["sub/text.jpg"] and content["nb_pictures"] == 6
    html = (home / "copies.html").read_text()
    assert html.count("data:image/jpeg;base64,") == 5 and "b&amp;w &lt;1&gt;.webp" in html and "text.jpg" in html
    assert "://" not in html


def test_only_what_is_new_or_changed_is_read(shop, folder, encoder, monkeypatch):
    home = home_of(folder, shop.folder / "homes")
    first = update_collection(folder, encoder, home)
    assert (first.nb_read, first.nb_forgotten) == (7, 0)
    read = []
    encode = encoder.encode
    monkeypatch.setattr(encoder, "encode", lambda paths: encode(read.append(path) or path for path in paths))
    again = update_collection(folder, encoder, home)
    assert read == [] and np.array_equal(again.logits, first.logits) and again.pictures == first.pictures
    draw(3).save(folder / "0.png")
    draw(3).save(folder / "3.png")
    (folder / "1.png").unlink()
    third = update_collection(folder, encoder, home)
    assert sorted(path.name for path in read) == ["0.png", "3.png"] and third.nb_forgotten == 1
    assert names_of(third, find_groups(third)) == [["0.png", "3.png"], ["2.png", "sub/2.bmp"], EXPECTED[0][1:]]
    fresh = update_collection(folder, encoder, home.with_name("fresh"))
    assert fresh.pictures == third.pictures and np.allclose(fresh.logits, third.logits, atol=1e-4)


def test_another_network_reads_everything_again(shop, folder, encoder):
    home = home_of(folder, shop.folder / "homes")
    update_collection(folder, encoder, home)
    encoder.identity = "another"
    assert update_collection(folder, encoder, home).nb_read == 7


def test_killed_at_any_moment(shop, folder, encoder, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 2)
    home = home_of(folder, shop.folder / "homes")
    encode = encoder.encode

    def killed(paths):
        for number, encoded in enumerate(encode(paths)):
            if number == 5:
                raise KeyboardInterrupt
            yield encoded

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(encoder, "encode", killed)
        update_collection(folder, encoder, home)
    resumed = update_collection(folder, encoder, home)
    assert resumed.nb_read == 3
    assert names_of(resumed, find_groups(resumed)) == EXPECTED


def test_queries(shop, folder):
    draw(2).save(shop.folder / "query.png")
    output = shop.check(["find_copies.py", folder, "-d", "cpu", "--query", "query.png", folder / "1.png", "some/3.png"])
    lines = output.splitlines()
    start = lines.index("query.png: 2 copies")
    assert sorted(lines[start + 1 : start + 3]) == [f"  {folder}/2.png", f"  {folder}/sub/2.bmp"]
    assert f"{folder}/1.png: 2 copies" in lines and "some/3.png: 0 copies" in lines
    shop.refuse(["find_copies.py", folder, "-d", "cpu", "--query", "nothing.png"], "nothing.png", "No such file")
    shop.refuse(["find_copies.py", folder, "-d", "cpu", "--query", folder / "sub" / "text.jpg"], "text.jpg")


def made_up(logits):
    pictures = [Picture(f"{row}.jpg", 10 + row, 10, 100) for row in range(len(logits))]
    return Collection(Path("somewhere"), pictures, np.array(logits, np.float32))


def test_probing_connects():
    """Three bits: one picture is sure, the others differ from it in a bit of which they are not, and in one more."""
    collection = made_up([[3, 3, 3], [3, 3, -0.1], [3, -3, -0.2], [3, 3, 2], [-3, -3, -2]])
    assert [group.rows for group in find_groups(collection)] == [[3, 0]]
    (group,) = find_groups(collection, 2)
    assert group.rows == [3, 1, 0] and group.nb_fingerprints == 2
    assert find_groups(collection, 8)[0].rows == [4, 3, 2, 1, 0]
    assert find_copies(collection, np.array([3, 0.1, -2.0], np.float32), 1) == [1]
    assert find_copies(collection, np.array([3, 0.1, -2.0], np.float32), 2) == [1, 2]  # the most probable first
    assert find_groups(made_up(np.zeros((0, 8)))) == []


def test_groups_do_not_depend_on_the_order():
    logits = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    order = np.random.default_rng(1).permutation(60)
    for nb_lookups in (1, 3):
        groups = {frozenset(group.rows) for group in find_groups(made_up(logits), nb_lookups)}
        shuffled = find_groups(made_up(logits[order]), nb_lookups)
        assert groups == {frozenset(order[group.rows].tolist()) for group in shuffled} and len(groups) > 1


def test_a_page_without_copies_and_with_pictures_that_are_gone(tmp_path):
    collection = made_up([[1, 1], [1, 1]])
    write_page(tmp_path / "gone.html", collection, find_groups(collection), 1, "a network")
    assert (tmp_path / "gone.html").read_text().count("<small>gone</small>") == 2
    write_page(tmp_path / "none.html", collection, [], 1, "a network")
    assert "No two pictures" in (tmp_path / "none.html").read_text()


def test_refusals(shop, folder, tmp_path):
    shop.refuse("find_copies.py nowhere -d cpu", "nowhere is not a folder")
    shop.refuse(["find_copies.py", tmp_path, "-d", "cpu"], "has no pictures")
    shop.refuse(["find_copies.py", folder, "HashNet"], "python train.py PictureCopies HashNet")
    shop.refuse(["find_copies.py", folder, "HashNett"], "HashNet")
    shop.refuse(["find_copies.py", folder, "-d", "cpu", "--nb_lookups", "0"], "--nb_lookups")


def test_damage_is_told_from_errors_of_the_system(shop, folder, encoder, monkeypatch):
    home = home_of(folder, shop.folder / "homes")
    update_collection(folder, encoder, home)
    path = home / "fingerprints.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE files SET logits = x'00' WHERE bytes = (SELECT max(bytes) FROM files)")
    connection.close()
    with pytest.raises(Damaged, match="bytes of logits"):
        update_collection(folder, encoder, home)
    path.write_bytes(b"no database " * 100)
    with pytest.raises(Damaged, match="delete it"):
        update_collection(folder, encoder, home)
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError) as caught:
        update_collection(folder, encoder, home)
    assert not isinstance(caught.value, Damaged)


def test_names_of_any_bytes(shop, folder):
    odd = os.fsdecode(b"caf\xe9.png")
    draw(0).save(folder / "plain.png")
    os.rename(folder / "plain.png", folder / odd)
    shop.check(["find_copies.py", folder, "-d", "cpu"])
    (home,) = (shop.folder / HOME).glob(f"copies_{folder.name}_*")
    assert b"caf\xe9.png" in (home / "copies.csv").read_bytes()
    groups = json.loads((home / "copies.json").read_text())["groups"]
    assert sorted(picture["path"] for picture in groups[1]) == ["0.png", odd]


def test_a_file_that_cannot_be_read_now_is_tried_again(shop, folder, encoder, monkeypatch):
    """One leads nowhere, and a disk fails to give the other."""
    (folder / "broken.png").symlink_to("nowhere")

    def fail(path, side):
        if path.name == "1.png":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read_scaled(path, side)

    home = home_of(folder, shop.folder / "homes")
    with monkeypatch.context() as patch:
        patch.setattr("equihash.copies.encoder.read_scaled", fail)
        unreadable = update_collection(folder, encoder, home).unreadable
    assert (unreadable["broken.png"], unreadable["1.png"]) == ("No such file or directory", "Input/output error")
    (folder / "nowhere").write_bytes((folder / "0.png").read_bytes())
    found = update_collection(folder, encoder, home)
    assert list(found.unreadable) == ["sub/text.jpg"] and found.nb_read == 2
    assert names_of(found, find_groups(found)) == [EXPECTED[0], *sorted([["0.png", "broken.png"], EXPECTED[1]])]
