import json

import numpy as np
import pytest
import torch
from conftest import GOLDEN
from torch._subclasses.fake_tensor import FakeTensorMode

from equihash.models import MnistMosaicCNN


def test_golden_logits(golden):
    data = golden("mnist_mosaic_cnn")
    network = MnistMosaicCNN(k=64, batch_norm=True)
    network.load_state_dict(torch.load(GOLDEN / "mnist_mosaic_cnn_state.pth", weights_only=True))
    with torch.no_grad():
        logits = network.eval()(torch.from_numpy(data["x"])).numpy()
    assert logits.shape == (6, 2, 64)
    np.testing.assert_allclose(logits, data["out_eval"], rtol=1e-4, atol=1e-4)


def test_parameters_have_the_published_names():
    shapes = json.loads((GOLDEN / "network_state_dicts.json").read_text())["MnistMosaicCNN(k=64, batch_norm=True)"]
    state = MnistMosaicCNN(k=64, batch_norm=True).state_dict()
    assert {name: list(tensor.shape) for name, tensor in state.items()} == shapes
    assert list(state) == list(shapes)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_any_leading_shape_and_k(batch_norm):
    network = MnistMosaicCNN(k=16, batch_norm=batch_norm).eval()
    x = torch.rand(2, 3, 56, 56)
    assert network(x).shape == (2, 3, 16)
    torch.testing.assert_close(network(x[1, 2]), network(x)[1, 2])


def test_batch_norm_sees_the_pooled_activations(golden):
    """The published checkpoint's running statistics are those after pooling."""
    network = MnistMosaicCNN()
    seen = {}
    network.conv2_bn.register_forward_hook(lambda module, inputs, output: seen.update(shape=inputs[0].shape))
    network(torch.rand(4, 56, 56))
    assert seen["shape"] == (4, 24, 26, 26)


def test_no_mixed_devices_on_cuda():
    with FakeTensorMode(), torch.device("cuda"):
        network = MnistMosaicCNN()
        logits = network(torch.empty(4, 2, 56, 56))
        assert logits.device.type == "cuda" and logits.shape == (4, 2, 64)
