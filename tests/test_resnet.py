"""The ResNets: parameter names of the published checkpoints, shapes, layout."""

import json
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from equihash.errors import UserError
from equihash.models.resnet import MnistResNet, Uint8ResNet

STATE_DICTS = json.loads((Path(__file__).parent / "golden" / "network_state_dicts.json").read_text())


def random_images(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("network_class", [Uint8ResNet, MnistResNet])
def test_published_parameters(network_class):
    expected = STATE_DICTS[f"{network_class.__name__}(k=64, version=18, batch_norm=True)"]
    network = network_class(k=64, version=18, batch_norm=True)
    assert {name: list(value.shape) for name, value in network.state_dict().items()} == expected


@pytest.mark.parametrize(("version", "nb_features"), [(18, 512), (34, 512), (50, 2048)])
def test_versions_and_last_layer(version, nb_features):
    with torch.device("meta"):
        last = Uint8ResNet(k=24, version=version).fc
        assert last[0].weight.shape == (24, nb_features) and last[0].bias is None
        last = MnistResNet(k=24, version=version, batch_norm=False).fc
    assert last.weight.shape == (24, nb_features) and last.bias.shape == (24,)


def test_unknown_version():
    with pytest.raises(UserError, match="unknown ResNet version 19.*18"):
        Uint8ResNet(version=19)


def test_any_leading_shape():
    network = Uint8ResNet(k=8).eval()
    images = random_images(2, 3, 3, 40, 52)
    logits = network(images)
    assert logits.shape == (2, 3, 8)
    assert torch.allclose(network(images[1, 2]), logits[1, 2], atol=1e-4)
    assert network(images[:0]).shape == (0, 3, 8)
    digits = torch.rand(2, 3, 56, 56)
    network = MnistResNet(k=8).eval()
    assert torch.allclose(network(digits)[1], network(digits[1]), atol=1e-4)


def test_input_is_scaled_and_layout_is_only_a_layout():
    network, hwc = Uint8ResNet(k=8).eval(), Uint8ResNet(k=8, HWC=True).eval()
    hwc.load_state_dict(network.state_dict())
    images = random_images(2, 3, 40, 52)
    seen = []
    network.conv1.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    assert torch.allclose(network(images), hwc(images.movedim(1, -1).contiguous()), atol=1e-5)
    assert torch.allclose(seen[0], images / 127.5 - 1, atol=1e-6)
    assert seen[0].min() == -1 and seen[0].max() == 1


@pytest.mark.parametrize(
    ("network_class", "images"), [(Uint8ResNet, random_images(2, 3, 40, 52)), (MnistResNet, torch.rand(2, 56, 56))]
)
def test_channels_last_inside(network_class, images):
    network = network_class(k=8)
    seen = []
    network.layer3.register_forward_hook(lambda module, arguments, output: seen.append(output))
    network(images).sum().backward()
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_other_precision():
    network = Uint8ResNet(k=8).eval().bfloat16()
    assert network(random_images(2, 3, 40, 52)).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("network_class", "shape", "dtype"),
    [(Uint8ResNet, (4, 2, 3, 180, 270), torch.uint8), (MnistResNet, (4, 2, 56, 56), torch.float32)],
)
def test_stays_on_a_gpu(network_class, shape, dtype):
    with FakeTensorMode(), torch.device("cuda"):
        logits = network_class()(torch.empty(shape, dtype=dtype))
    assert logits.device.type == "cuda" and logits.shape == (4, 2, 64)
