"""Edited copies of pictures: the banks, the edits, the network, and the stages on them."""

import io
import json

import h5py
import numpy as np
import pytest
import torch
from conftest import REPOSITORY, Workspace
from PIL import Image, ImageFilter
from torch._subclasses.fake_tensor import FakeTensorMode

from equihash.datasets import PictureCopies, ProceduralDatabase, edits, picture_copies
from equihash.datasets.edits import EDITS, NB_DRAWS, edited, jpeg
from equihash.errors import UserError
from equihash.image_files import read_scaled
from equihash.models import PictureCNN, Uint8ResNet
from equihash.prepare.dead_leaves import draw_dead_leaves, prepare_dead_leaves
from equihash.prepare.pictures import prepare_pictures

NO_EDITS = dict.fromkeys(EDITS, 0.0)


def leaves(seed, size=None):
    image = draw_dead_leaves(np.random.default_rng(seed))
    return image if size is None else image.resize(size, Image.Resampling.BOX)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures in two sub-folders, three and two of them, one that lies in none, and what cannot be read."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, name in enumerate(["a/1.png", "a/2.png", "a/deep/3.png", "b/4.png", "b/5.png", "z.png"]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        leaves(number).save(folder / name)
    leaves(0).save(folder / "b" / "again.png")
    (folder / "b" / "text.jpg").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def banks(folder, tmp_path_factory):
    """Banks of one class a file and of one a folder, 64 pixels a side."""
    place = tmp_path_factory.mktemp("banks")
    prepare_pictures(folder, place / "test.hdf5", side=64)
    (place / "folders").mkdir()
    prepare_pictures(folder, place / "folders" / "test.hdf5", "folders", 64)
    return place


# --- banks


def test_bank_of_files(folder, banks):
    with h5py.File(banks / "test.hdf5") as file:
        assert list(file) == ["images"] and file["images"].shape == (6, 64, 64, 3)
        for image, name in zip(file["images"], ["a/1.png", "a/2.png", "a/deep/3.png", "b/4.png", "b/5.png", "z.png"]):
            assert np.array_equal(image, read_scaled(folder / name, 64)[0])


def test_bank_of_folders(banks):
    with h5py.File(banks / "test.hdf5") as files, h5py.File(banks / "folders" / "test.hdf5") as folders:
        assert folders["starts"][:].tolist() == [0, 3, 5]
        assert np.array_equal(folders["images"], files["images"][:5])


def test_a_bank_is_resumed(folder, banks, tmp_path, monkeypatch):
    from equihash.prepare import picture_bank

    def interrupted(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(picture_bank, "create_hdf5", interrupted)
        prepare_pictures(folder, tmp_path / "bank.hdf5", "folders", 64)
    monkeypatch.setattr("equihash.prepare.pictures.read_scaled", lambda path, side: pytest.fail(f"{path} read again"))
    (folder / "b" / "text.jpg").rename(folder / "b" / ".text.jpg")
    with pytest.raises(BaseException, match="read again"):
        prepare_pictures(folder, tmp_path / "bank.hdf5", "folders", 64)
    (folder / "b" / ".text.jpg").rename(folder / "b" / "text.jpg")
    monkeypatch.undo()
    prepare_pictures(folder, tmp_path / "bank.hdf5", "folders", 64)
    assert (tmp_path / "bank.hdf5").read_bytes() == (banks / "folders" / "test.hdf5").read_bytes()


def test_refusals_of_banks(workspace, folder):
    (workspace.folder / "flat").mkdir()
    leaves(1).save(workspace.folder / "flat" / "1.png")
    command = "prepare_data.py pictures --split test --banks banks --source"
    workspace.refuse(f"{command} flat --classes folders", "no pictures in sub-folders")
    workspace.refuse(f"{command} flat --side 7", "side must be 16 to 1024")
    workspace.refuse(f"{command} nowhere", "nowhere is not a folder")
    workspace.check(f"{command} flat")
    workspace.refuse(f"{command} flat", "--force")
    command = ["train.py", "PictureCopies", "ShannonHamming", "-d", "cpu", "-a", "loader_kwargs:path:banks"]
    workspace.refuse(command, "prepare_data.py pictures --source FOLDER --split train --banks banks")
    workspace.refuse([*command, "loader_kwargs:edits:mirror:0.5"], "mirror")
    workspace.refuse([*command, "loader_kwargs:edits:crop:0.95"], "crop")
    with workspace.inside(), pytest.raises(UserError, match="one class"):
        PictureCopies("banks", which="test")
    for starts in ([0, 2], [0, 0, 1], [1]):
        with h5py.File(workspace.folder / "wrong.hdf5", "w") as file:
            file["images"], file["starts"] = np.zeros((1, 8, 8, 3), np.uint8), np.array(starts)
        with pytest.raises(UserError, match="starts"):
            PictureCopies(workspace.folder / "wrong.hdf5", which="test")
    with pytest.raises(UserError, match="multiple of 8"):
        PictureCopies("banks", side=60)


# --- pictures at reduced size


def test_reduced_pictures_are_upright_and_whole(tmp_path):
    image = leaves(3, (800, 600)).filter(ImageFilter.GaussianBlur(6))
    exif = Image.Exif()
    exif[0x112] = 6  # to be turned by a quarter
    image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    pixels, size = read_scaled(tmp_path / "turned.jpg", 64)
    expected = image.transpose(Image.Transpose.ROTATE_270).resize((64, 64), Image.Resampling.BOX)
    assert size == (600, 800) and pixels.dtype == np.uint8
    assert np.abs(pixels - np.asarray(expected, int)).mean() < 3
    image.save(tmp_path / "turned.tif", exif=exif)
    assert read_scaled(tmp_path / "turned.tif", 64)[1] == (600, 800)


# --- edits


def instances(bank, **strengths):
    dataset = PictureCopies(bank, 32, {**NO_EDITS, **strengths}, which="test")
    labels = np.arange(dataset.bank_size).reshape(-1, 1, 1)
    return dataset.batch_from_labels(labels, 40, torch.Generator().manual_seed(0))


def originals(bank):
    with h5py.File(bank / "test.hdf5") as file:
        return torch.from_numpy(file["images"][:]).permute(0, 3, 1, 2).unflatten(2, (32, 2)).unflatten(4, (32, 2))


def test_no_edit_leaves_the_picture(banks):
    expected = originals(banks).float().mean((3, 5))
    difference = (instances(banks) - expected[:, None]).abs()
    assert difference.max() <= 3 and difference.mean() < 0.7  # quality 100 rounds coefficients to whole numbers


@pytest.mark.parametrize("name", EDITS)
def test_each_edit_changes_some_copies_by_various_amounts(banks, name):
    plain, copies = instances(banks), instances(banks, **{name: EDITS[name].strength})
    changes = (copies.float() - plain.float()).abs().mean((2, 3, 4))
    edits_made = (changes > 0.1).float().mean()
    assert 0.1 < edits_made < 0.6  # a fair coin, and few are too weak to be seen
    assert changes.max() > 3


def test_single_edits_are_what_they_say(banks):
    with h5py.File(banks / "test.hdf5") as file:
        images = torch.from_numpy(file["images"][:])
    generator = torch.Generator()

    def copy(**amounts):
        row = torch.tensor([[float(amounts.get(name, 0)) for name in EDITS]]).repeat(len(images), 1)
        draws = torch.full((len(images), NB_DRAWS), 0.5)
        return edited(images, 32, row, draws, generator.manual_seed(0)).float()

    plain = copy()
    assert torch.equal(copy(grey=1)[:, 0], copy(grey=1)[:, 1])
    assert (copy(rotation=180) - plain.flip(2, 3)).abs().mean() < 2
    middle = images[:, 16:48, 16:48].permute(0, 3, 1, 2).float()
    assert (copy(crop=0.5) - middle).abs().mean() < 0.3 * (plain - middle).abs().mean()  # being resampled
    assert (copy(brightness=-1) == 0).float().mean() > 0.99
    luma = plain.mean((1, 2, 3))
    flat = copy(contrast=-20)
    assert flat.std((2, 3)).max() < 1.5 and (flat.mean((1, 2, 3)) - luma).abs().max() < 25
    assert (copy(resampling=31)[:, :, :1, :1] - copy(resampling=31)).abs().max() <= 1
    assert copy(blur=3)[:, :, 1:].sub(copy(blur=3)[:, :, :-1]).abs().mean() < 10
    assert 20 < (copy(noise=0.2) - plain).std() < 55
    box = copy(overlay=0.5)
    assert (box[:, :, 8:24, 8:24] - box[:, :, 12:13, 12:13]).abs().max() <= 2
    assert torch.equal(box[:, :, :8], plain[:, :, :8])


def test_jpeg_is_near_that_of_a_library():
    picture = leaves(5, (64, 48)).filter(ImageFilter.GaussianBlur(1))
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float()
    for quality in (10, 30, 60):
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality, subsampling=0)
        theirs = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)[None].float()
        ours = jpeg(pixels, torch.full((1, 1, 1, 1), float(quality))).clamp(0, 255)
        assert (pixels - theirs).abs().mean() > 4
        assert (ours - theirs).abs().mean() < 1.5  # a library rounds between the steps


def test_copies_of_folders(banks):
    plain = originals(banks).float().mean((3, 5))
    copies = instances(banks / "folders").float()
    assert len(copies) == 2
    nearest = (copies[:, :, None] - plain).abs().mean((3, 4, 5)).argmin(2)
    assert set(nearest[0].tolist()) == {0, 1, 2} and set(nearest[1].tolist()) == {3, 4}


def test_instances_do_not_depend_on_who_asks(banks):
    datasets = [PictureCopies(banks, 32, size=5, which="test", seed=4) for _ in range(2)]
    assert torch.equal(*(dataset.positive_pairs_batch() for dataset in datasets))
    labels = datasets[0].generate_labels(7, 1)[:, 0]
    together = ProceduralDatabase(labels, datasets[0], 0xACE)[[6, 2]]
    assert torch.equal(together[1], ProceduralDatabase(labels, datasets[1], 0xACE)[2])
    assert datasets[0].digest() != PictureCopies(banks / "folders", 32, which="test").digest()


@pytest.mark.parametrize("classes", ["files", "folders"])
def test_edits_stay_on_a_gpu(banks, classes, monkeypatch):
    """No tensor of the CPU meets one of the GPU: shown without a GPU by tensors that have a device but no values."""
    dataset = PictureCopies(banks if classes == "files" else banks / "folders", 32, size=3, which="test")
    with FakeTensorMode(allow_non_fake_inputs=False):
        cuda = torch.device("cuda")
        rows = torch.empty(6, 64, 64, 3, dtype=torch.uint8, device=cuda)

        class Bank:
            def __getitem__(self, indices):
                return rows[torch.as_tensor(indices).to(cuda)]

        dataset.device, dataset.noise_stream, dataset.bank = cuda, None, Bank()
        dataset.strengths = torch.empty(len(EDITS), device=cuda)
        dataset.starts = None if classes == "files" else torch.empty(3, dtype=torch.int64, device=cuda)
        monkeypatch.setitem(picture_copies.SUB_BATCH, "cuda", 4)
        copies = dataset.positive_pairs_batch()
        assert copies.shape == (3, 2, 3, 32, 32) and copies.dtype == torch.uint8 and copies.device.type == "cuda"


# --- the network


def test_the_network_scales_pictures_of_any_size():
    torch.manual_seed(0)
    with pytest.raises(UserError, match="multiple of 16"):
        PictureCNN(k=16, side=72)
    network = PictureCNN(k=16, side=64, width=8).eval()
    large = torch.from_numpy(np.array(leaves(2, (192, 192)))).permute(2, 0, 1)
    small = torch.from_numpy(np.array(leaves(2, (64, 64)))).permute(2, 0, 1)
    with torch.inference_mode():
        logits = network(large[None])
        assert (logits - network(small[None])).abs().max() < 0.1 * logits.std()
        assert network(large[:, :100, :150][None, None]).shape == (1, 1, 16)
    with pytest.raises(UserError, match="uint8"):
        network(large[None].float())
    assert Uint8ResNet(k=16)(small[None].repeat(2, 1, 1, 1)).shape == (2, 16)


def test_the_network_stays_on_a_gpu():
    with FakeTensorMode(), torch.device("cuda"):
        logits = PictureCNN(k=16)(torch.empty(4, 2, 3, 128, 96, dtype=torch.uint8))
        assert logits.device.type == "cuda" and logits.shape == (4, 2, 16)


# --- pictures drawn by chance, and all stages


def test_dead_leaves_are_always_the_same(tmp_path):
    prepare_dead_leaves(tmp_path / "some", 3, 2, seed=1)
    (tmp_path / "some" / "copies" / "000001.jpg").unlink()
    prepare_dead_leaves(tmp_path / "some", 3, 2, seed=1)
    prepare_dead_leaves(tmp_path / "more", 4, 2, seed=1)
    names = ["000000.jpg", "000001.jpg", "000002.jpg", "copies/000000.jpg", "copies/000001.jpg"]
    assert sorted(str(path.relative_to(tmp_path / "some")) for path in (tmp_path / "some").rglob("*.jpg")) == names
    contents = [[(tmp_path / place / name).read_bytes() for name in names] for place in ("some", "more")]
    assert contents[0] == contents[1] and len({*contents[0]}) == 5


QUICK = ["-d", "cpu", "-a", "nb_steps:2", "eval_freq:2", "eval_size:32", "loader_kwargs:size:8", "network_kwargs:k:16"]
QUICK += ["loader_kwargs:path:banks", "trainer_kwargs:nb_batch_per_step:2", "network_kwargs:width:8"]


@pytest.fixture(scope="module")
def trained(folder, banks, tmp_path_factory):
    """A workspace with a network of ShannonHamming that is hardly trained."""
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    (workspace.folder / "banks").mkdir()
    for split in ("train", "valid", "test"):
        (workspace.folder / "banks" / f"{split}.hdf5").symlink_to(banks / "test.hdf5")
    workspace.check(["train.py", "PictureCopies", "ShannonHamming", *QUICK])
    return workspace


def test_all_stages(trained):
    models = sorted(path.parent.name for path in (REPOSITORY / "configs" / "PictureCopies").glob("*/modelconfig.json"))
    assert {"HashNet", "JMLH", "ShannonHamming"} <= {*models}
    trained.check(["train.py", "PictureCopies", "HashNet", *QUICK])
    trained.check(["train.py", "PictureCopies", "JMLH", *QUICK, "trainer_kwargs:nb_classes:6"])
    trained.check("generate_labels.py PictureCopies few -b 6 -d 600 -p 20 -n 0 -t 20 -m 1 1")
    for job in range(2):
        trained.check(f"encode.py PictureCopies few ShannonHamming -d cpu -j {job} -n 2")
    trained.check("merge.py PictureCopies few ShannonHamming -n 2 -b")
    trained.check("evaluate_binary_equihash.py PictureCopies few ShannonHamming -d cpu --nb_lookups 1 4")
    output = trained.check("search.py PictureCopies few ShannonHamming -d cpu --id 3 --nb_lookups 4")
    assert "item 3" in output
    assert "ShannonHamming" in trained.check("show_results.py PictureCopies few")
    home = "data/experiments/PictureCopies/ShannonHamming/main/current"
    results = json.loads((trained.folder / home / "test_few" / "results.json").read_text())
    assert results["database_size"] == 600
    assert (trained.folder / home / "instances.png").is_file()


@pytest.mark.parametrize("variant", ["demonstration", "photos"])
def test_the_variants_that_the_documentation_trains(trained, variant):
    table = REPOSITORY / "configs" / "PictureCopies" / "ShannonHamming" / f"{variant}.json"
    assert json.loads(table.read_text())[1][0] == variant
    output = trained.check(f"train.py PictureCopies ShannonHamming -v {variant} -i 0 --show_config")
    assert f"data/{variant}/banks" in output
    assert edits.EDITS.keys() == json.loads(output)["loader_kwargs"]["edits"].keys()
