"""The natural-image mosaics: golden images, colour, noise maps, and where the bank lives."""

import colorsys
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from equihash.datasets import NoisyOpenImagesMosaic, ProceduralDatabase, image_bank, procedural
from equihash.datasets import noisy_open_images_mosaic as module
from equihash.datasets.color import shift_hue_and_lightness
from equihash.datasets.image_bank import ImageBank
from equihash.datasets.perlin import PerlinNoise
from equihash.errors import UserError

GOLDEN = np.load(Path(__file__).parent / "golden" / "open_images_mosaics.npz")


def assert_close_images(found, expected):
    difference = np.abs(found.numpy().astype(int) - expected)
    assert difference.max() <= 2
    assert (difference > 0).mean() <= 0.005


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bank")
    with h5py.File(folder / "test.hdf5", "w") as file:
        file["images"] = GOLDEN["images"]
    with h5py.File(folder / "compressed.hdf5", "w") as file:
        file.create_dataset("images", data=GOLDEN["images"], chunks=(5, 180, 180, 3), compression="gzip")
    with h5py.File(folder / "perlin.hdf5", "w") as file:
        for name in ("resolution1", "resolution2"):
            file[name] = GOLDEN[f"perlin_{name}"]
    return folder


@pytest.fixture
def fresh(folder):
    return NoisyOpenImagesMosaic(folder, None, size=5, which="test", seed=3)


@pytest.mark.parametrize("name", ["", "test.hdf5", "compressed.hdf5"])
@pytest.mark.parametrize("location", image_bank.LOCATIONS)
def test_golden_mosaics(folder, name, location):
    dataset = NoisyOpenImagesMosaic(folder / name, folder / "perlin.hdf5", which="test", bank_location=location)
    generator = torch.Generator().manual_seed(int(GOLDEN["noise_seed"]))
    assert_close_images(dataset.batch_from_labels(GOLDEN["labels"], torch_generator=generator), GOLDEN["mosaics"])
    generator.manual_seed(int(GOLDEN["noise_seed_pairs"]))
    assert_close_images(dataset.batch_from_labels(GOLDEN["labels"][:2], 2, generator), GOLDEN["pairs"])


def test_golden_overlap():
    images = torch.from_numpy(GOLDEN["images"][GOLDEN["labels"].ravel()])
    assert np.array_equal(module.put_together(images).transpose(0, 1), GOLDEN["unnoised"])


def shifted(hls, hue, lightness):
    """The definition, pixel by pixel: hue, lightness and saturation (3, ...) to red, green and blue."""
    h, light, s = hls
    return np.stack(np.vectorize(colorsys.hls_to_rgb)(h + hue, (1 - abs(lightness)) * light + max(0, lightness), s))


@pytest.mark.parametrize("hue, lightness", [(0, 0), (1 / 16, -0.2), (-1 / 16, 0.2), (0.03, 1)])
def test_golden_color(hue, lightness):
    rgb, hls = (np.moveaxis(GOLDEN[name], -3, 0) for name in ("rgb", "hls"))
    one = torch.ones(rgb.shape[1])
    found = shift_hue_and_lightness(torch.from_numpy(255 * rgb), hue * one, lightness * one)
    assert np.allclose(found, 255 * shifted(hls, hue, lightness), atol=5e-3)


@settings(deadline=None, max_examples=50)
@given(
    st.integers(0, 2**32),
    st.sampled_from([2, 3, 5, 256]),
    st.floats(-1 / 16, 1 / 16),
    st.floats(-1, 1),
)
def test_color_shift_is_the_round_trip_through_hls(seed, nb_values, hue, lightness):
    levels = torch.linspace(0, 255, nb_values).round()  # with 2 or 3 values many pixels are grey or have equal channels
    planes = levels[torch.randint(0, nb_values, (3, 1, 16, 16), generator=torch.Generator().manual_seed(seed))]
    found = shift_hue_and_lightness(planes, torch.tensor([hue]), torch.tensor([lightness]))
    hls = np.stack(np.vectorize(colorsys.rgb_to_hls)(*planes.double().numpy() / 255))
    assert np.allclose(found, 255 * shifted(hls, hue, lightness), atol=5e-3)


@settings(deadline=None, max_examples=10)
@given(st.integers(1, 12), st.integers(1, 7))
def test_noise_does_not_depend_on_the_sub_batches(folder, step, nb_labels):
    for perlin in (None, folder / "perlin.hdf5"):
        dataset = NoisyOpenImagesMosaic(folder, perlin, which="test", seed=1)
        labels = dataset.generate_labels(nb_labels, 1)[:, 0]
        batches = []
        for sub_batch in (step, 100):
            with pytest.MonkeyPatch.context() as patch:
                patch.setitem(module.SUB_BATCH, "cpu", sub_batch)
                batches.append(dataset.batch_from_labels(labels, 3, torch.Generator().manual_seed(2)))
        assert_close_images(batches[0], batches[1].numpy())


def test_shapes_and_layouts(folder, fresh):
    labels = np.arange(24).reshape(3, 4, 1, 2) % 12
    generator = torch.Generator()
    instances = fresh.batch_from_labels(labels, 2, generator.manual_seed(1))
    assert instances.shape == (3, 2, 4, 3, 180, 270) and instances.dtype == torch.uint8
    assert not torch.equal(instances[:, 0], instances[:, 1])
    hwc = NoisyOpenImagesMosaic(folder, None, which="test", HWC=True)
    assert torch.equal(hwc.batch_from_labels(labels, 2, generator.manual_seed(1)), instances.movedim(-3, -1))
    assert fresh.batch_from_labels(labels[0, 0].astype(np.uint8)).shape == (3, 180, 270)
    assert fresh.batch_from_labels(labels[:0]).shape == (0, 4, 3, 180, 270)
    assert fresh.positive_pairs_batch().shape == (5, 2, 3, 180, 270)
    assert fresh.hinge_triplets_batch().shape == (5, 3, 3, 180, 270)
    with pytest.raises(ValueError, match="1, 2"):
        fresh.batch_from_labels(np.zeros((4, 2, 2), dtype=int))
    with pytest.raises(IndexError):
        fresh.batch_from_labels(np.full((4, 1, 2), 12))


def test_same_seed_same_instances(folder):
    first, second = (NoisyOpenImagesMosaic(folder, None, size=2, which="test", seed=9) for _ in range(2))
    assert torch.equal(first.positive_pairs_batch(), second.positive_pairs_batch())
    assert torch.equal(first.positive_pairs_batch(), second.positive_pairs_batch())


def test_procedural_items_do_not_depend_on_who_asks(fresh, monkeypatch):
    monkeypatch.setattr(procedural, "CHUNK_SIZE", 10)
    labels = fresh.generate_labels(13, 1)[:, 0]
    together = ProceduralDatabase(labels, fresh, seed=0xACE)[[11, 7]]
    for item, made in zip((11, 7), together):
        assert torch.equal(ProceduralDatabase(labels, fresh, seed=0xACE)[item], made)


def test_threads_and_mode_of_the_caller(fresh):
    nb_threads = torch.get_num_threads()
    fresh.positive_pairs_batch()
    assert torch.get_num_threads() == nb_threads
    with torch.inference_mode():
        assert fresh.positive_pairs_batch().shape == (5, 2, 3, 180, 270)


# --- noise maps


def direct_noise(place, angles, period, y, x):
    """Perlin's noise at one point, as it is usually written."""
    y, x = y / period + place[0], x / period + place[1]
    i, j = int(y), int(x)

    def fade(t):
        return t**3 * (t * (t * 6 - 15) + 10)

    def corner(di, dj):
        angle = angles[i + di, j + dj]
        return np.sin(angle) * (y - i - di) + np.cos(angle) * (x - j - dj)

    top = corner(0, 0) + fade(x - j) * (corner(0, 1) - corner(0, 0))
    bottom = corner(1, 0) + fade(x - j) * (corner(1, 1) - corner(1, 0))
    return 127 * np.sqrt(2) * (top + fade(y - i) * (bottom - top))


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 60), st.integers(1, 60), st.floats(1, 80), st.integers(0, 2**32))
def test_maps_are_perlin_noise(height, width, period, seed):
    noise = PerlinNoise(height, width, period)
    draws = noise.draw(1, torch.Generator().manual_seed(seed))
    found = noise.maps(draws)[0].numpy()
    uniform = torch.rand(1, 2 + noise.nb_rows * noise.nb_columns, generator=torch.Generator().manual_seed(seed))
    uniform = uniform[0].double().numpy()
    angles = 2 * np.pi * uniform[2:].reshape(noise.nb_rows, noise.nb_columns)
    rng = np.random.default_rng(seed)
    for y, x in zip(rng.integers(height, size=20), rng.integers(width, size=20), strict=True):
        assert found[y, x] == pytest.approx(direct_noise(uniform[:2], angles, period, y, x), abs=0.02)


def many_maps(height, width, period, nb_maps):
    noise = PerlinNoise(height, width, period)
    return noise.maps(noise.draw(nb_maps, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("period", [period for period, _ in module.RESOLUTIONS.values()])
def test_maps_have_full_scale_and_zero_mean_everywhere(period):
    maps = many_maps(180, 270, period, 500)
    assert 120 < maps.abs().max() <= 127
    assert maps.mean().abs() < 1
    assert maps.mean(0).abs().max() < 39 * 5 / 500**0.5  # five standard errors
    # nowhere is there more noise than elsewhere: no lattice shows
    assert maps.std(0).max() / maps.std(0).min() < 1.4


def reach(maps, axis):
    """Pixels at which the correlation of maps along an axis falls below a half."""
    size = maps.shape[axis]
    power = torch.fft.rfft(maps, 2 * size, dim=axis).abs().square()
    correlation = torch.fft.irfft(power, dim=axis).mean((0, 3 - axis))[:size] / torch.arange(size, 0, -1)
    return int((correlation < correlation[0] / 2).nonzero()[0])


@pytest.mark.parametrize("name", module.RESOLUTIONS)
def test_maps_are_correlated_as_the_published_ones(name):
    published = torch.from_numpy(GOLDEN[f"perlin_{name}"]).float()
    maps = many_maps(180, 270, module.RESOLUTIONS[name][0], 200)
    expected = (reach(published, 1) + reach(published, 2)) / 2  # six maps: one axis alone says little
    assert (reach(maps, 1) + reach(maps, 2)) / 2 == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("period", [16, 22.5, 32])
def test_spectrum_lies_at_the_lattice_frequency(period):
    power = torch.fft.rfft2(many_maps(360, 360, period, 50)).abs().square().mean(0)
    frequency = torch.hypot(torch.fft.fftfreq(360)[:, None], torch.fft.rfftfreq(360)) * period
    assert 0.6 < (power * frequency).sum() / power.sum() < 0.9
    assert power[(frequency > 0.3) & (frequency < 1.3)].sum() / power.sum() > 0.85


def test_maps_have_no_seams():
    """Across the lines of the lattice the slope changes as smoothly as elsewhere."""
    noise = PerlinNoise(400, 400, 50)
    uniform = torch.full((1, 2 + noise.nb_rows * noise.nb_columns), 0.0)
    uniform[:, 2:] = torch.rand(uniform[:, 2:].shape, generator=torch.Generator().manual_seed(0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", lambda *shape, **kwargs: uniform)  # the lattice lies at pixels 0, 50, 100, ...
        noise_map = noise.maps(noise.draw(1))[0]
    assert noise_map[::50, ::50].abs().max() < 1e-3
    for axis in (0, 1):
        jumps = noise_map.double().diff(n=3, dim=axis).abs()
        at_lines = jumps.index_select(axis, torch.arange(48, 390, 50)).mean()
        assert at_lines < 3 * jumps.mean()


def test_displacement_stays_inside(fresh):
    for value in (-127, 127):
        displacement = torch.full((2, 180, 270), value / 320 + value / 640)
        assert (fresh.grid + fresh.damping * displacement).abs().max() <= 1 + 1e-6


# --- the bank


def test_missing_or_wrong_bank(folder, tmp_path):
    with pytest.raises(UserError, match=r"valid\.hdf5 does not exist: run prepare_open_images with split=.valid."):
        NoisyOpenImagesMosaic(folder, None, which="valid")
    with pytest.raises(UserError, match=r"does not hold `images`, uint8 \(N, 180, 180, 3\)"):
        NoisyOpenImagesMosaic(folder / "perlin.hdf5", None)
    with pytest.raises(UserError, match="run prepare_perlin"):
        NoisyOpenImagesMosaic(folder, folder / "nothing.hdf5", which="test")
    with pytest.raises(UserError, match="did you mean 'mapped'"):
        NoisyOpenImagesMosaic(folder, None, which="test", bank_location="maped")


@pytest.mark.parametrize(
    "device_fits, host_fits, expected",
    [(True, True, "device"), (True, False, "device"), (False, True, "host"), (False, False, "mapped")],
)
def test_auto_location_follows_the_free_memory(folder, monkeypatch, device_fits, host_fits, expected):
    enough = 2 * GOLDEN["images"].nbytes
    free = {"meta": enough - (not device_fits), "cpu": enough - (not host_fits)}
    monkeypatch.setattr(image_bank, "available_memory", lambda device: free[device.type])
    bank = ImageBank(folder / "test.hdf5", "images", (180, 180, 3), np.uint8, device="meta")
    assert bank.location == expected


def test_mapped_bank_does_not_stay_resident(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "large.hdf5", "w") as file:
        images = file.create_dataset("images", (4000, 180, 180, 3), np.uint8)  # 389 MB, most of it a hole
        images[-1] = 7
    monkeypatch.setattr(image_bank, "RELEASE_BYTES", 16 << 20)
    bank = ImageBank(tmp_path / "large.hdf5", "images", (180, 180, 3), np.uint8, "mapped")
    before, peak = psutil.Process().memory_info().rss, 0
    for first in range(0, len(bank), 50):
        rows = bank[np.arange(first, first + 50)]
        peak = max(peak, psutil.Process().memory_info().rss)
    assert (rows[-1] == 7).all()
    assert peak - before < 100 << 20


# --- other devices


@pytest.mark.parametrize("stored", [False, True])
def test_noise_stays_on_a_gpu(fresh, folder, stored):
    """No tensor of the CPU meets one of the GPU: shown without a GPU by tensors that have a device but no values."""
    dataset = NoisyOpenImagesMosaic(folder, folder / "perlin.hdf5" if stored else None, size=3, which="test")
    with FakeTensorMode():
        cuda = torch.device("cuda")

        class Bank:
            def __init__(self, *shape, dtype):
                self.rows = torch.empty(*shape, dtype=dtype, device=cuda)

            def __len__(self):
                return len(self.rows)

            def __getitem__(self, indices):
                return self.rows[torch.as_tensor(indices).to(cuda)]

        dataset.device, dataset.noise_stream = cuda, None
        dataset.bank = Bank(12, 180, 180, 3, dtype=torch.uint8)
        dataset.grid = dataset.damping = torch.empty(2, 180, 270, device=cuda)
        if stored:
            dataset.noises = [SimpleNamespace(bank=Bank(6, 180, 270, dtype=torch.int8)) for _ in range(2)]
            for noise in dataset.noises:
                noise.draw = module.StoredNoise.draw.__get__(noise)
                noise.maps = module.StoredNoise.maps.__get__(noise)
        instances = dataset.positive_pairs_batch()
        assert instances.shape == (3, 2, 3, 180, 270)
        assert instances.dtype == torch.uint8 and instances.device.type == "cuda"
