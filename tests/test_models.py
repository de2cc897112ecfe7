import copy
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import GOLDEN
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from equihash.kernels import _first_layer
from equihash.kernels.first_layer import first_layer
from equihash.kernels.max_pool import max_pool
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


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("width", [56, 30])  # the wider vectors need a multiple of four
def test_first_layer_is_the_plain_one(width, training, batch_norm):
    """The CPU's own code for it gives the output, gradients and running statistics of PyTorch's operations."""
    torch.manual_seed(0)
    conv = nn.Conv2d(1, 24, 5)
    norm = nn.BatchNorm2d(24).train(training) if batch_norm else nn.Identity()
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    conv2, norm2 = copy.deepcopy((conv, norm))
    images = torch.randn(7, 30, width)
    assert _first_layer.takes(tuple(conv.weight.shape), tuple(images.shape))
    output = first_layer(images, conv, norm)
    expected = norm2(F.relu(F.max_pool2d(conv2(images[:, None]), 2)))
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
    slope = torch.randn(output.shape)
    output.backward(slope)
    expected.backward(slope)
    for (name, ours), theirs in zip(
        [*conv.named_parameters(), *norm.named_parameters()], [*conv2.parameters(), *norm2.parameters()]
    ):
        assert (ours.grad - theirs.grad).norm() < 1e-4 * theirs.grad.norm(), name
    for ours, theirs in zip(norm.buffers(), norm2.buffers()):
        torch.testing.assert_close(ours, theirs)


def test_first_layer_in_bfloat16():
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(1, 24, 5), nn.BatchNorm2d(24)
    images, slope = torch.randn(7, 56, 56), torch.randn(7, 24, 26, 26)
    results = {}
    for precision in (torch.float32, torch.bfloat16):
        conv.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
            output = first_layer(images, conv, norm)
        assert output.dtype == precision
        output.backward(slope.to(precision))
        results[precision] = output.detach().float(), conv.weight.grad.clone()
    for exact, rounded in zip(*results.values()):
        assert 0 < (rounded - exact).norm() < 0.01 * exact.norm()


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("width", [56, 30])
def test_first_layer_and_pooling_in_evaluation(batch_norm, precision, width):
    """Without gradients they give what PyTorch's operations give one by one."""
    torch.manual_seed(0)
    conv, norms = nn.Conv2d(1, 24, 5), [nn.Identity(), nn.Identity()]
    if batch_norm:
        norms = [nn.BatchNorm2d(24), nn.BatchNorm2d(24)]
        for tensor in (tensor for norm in norms for tensor in (*norm.parameters(), *norm.buffers())):
            if tensor.is_floating_point():
                nn.init.uniform_(tensor, 0.5, 2)
    images = torch.randn(7, 28, width)
    images[3] = torch.nan
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
        first = first_layer(images, conv, norms[0].eval())
        second = max_pool(first - 2, norms[1].eval())
    expected = norms[0](F.relu(F.max_pool2d(conv(images[:, None]), 2)))
    close = dict(rtol=1e-2, atol=1e-2) if precision == torch.bfloat16 else dict(rtol=1e-5, atol=1e-5)
    for output, plain in ((first, expected), (second, norms[1](F.relu(F.max_pool2d(first.float() - 2, 2))))):
        assert output.dtype == precision and output.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(output.float(), plain.detach(), equal_nan=True, **close)


@pytest.mark.parametrize("shape", [(2, 32, 6, 4), (2, 3, 6, 4), (2, 32, 5, 7)])
def test_pooling_of_any_shape_and_its_gradients(shape):
    torch.manual_seed(0)
    images = torch.randn(shape, requires_grad=True)
    norm = nn.BatchNorm2d(shape[1]).eval()
    expected = norm(F.relu(F.max_pool2d(images, 2)))
    output = max_pool(images, norm)
    torch.testing.assert_close(output, expected)
    wanted = images, norm.weight
    for ours, theirs in zip(torch.autograd.grad(output.sum(), wanted), torch.autograd.grad(expected.sum(), wanted)):
        torch.testing.assert_close(ours, theirs)
    with torch.no_grad():
        torch.testing.assert_close(max_pool(images, norm), expected)
        torch.testing.assert_close(max_pool(images, norm.train()), norm(F.relu(F.max_pool2d(images, 2))))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_pooling_in_training_is_that_of_torch_to_the_bit(precision):
    """Of equals the first is the maximum, and nothing goes back to what ReLU dropped."""
    torch.manual_seed(0)
    values = torch.randint(-3, 3, (7, 16, 10, 6)).to(precision).contiguous(memory_format=torch.channels_last)
    slopes = torch.randn(7, 16, 5, 3).to(precision)
    results = []
    for pool in (lambda images: max_pool(images, nn.Identity()), lambda images: F.relu(F.max_pool2d(images, 2))):
        images = values.clone().requires_grad_()
        output = pool(images)
        results.append((output, *torch.autograd.grad(output, images, slopes)))
    (output, gradient), (expected_output, expected_gradient) = results
    assert output.is_contiguous(memory_format=torch.channels_last) and gradient.dtype == precision
    assert torch.equal(output, expected_output) and torch.equal(gradient, expected_gradient)


def test_first_layer_where_there_is_no_code_for_it():
    conv, norm = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8)
    images = torch.randn(2, 9, 9, requires_grad=True)
    output = first_layer(images, conv, norm)
    torch.testing.assert_close(output, norm(F.relu(F.max_pool2d(conv(images[:, None]), 2))))
    (gradient,) = torch.autograd.grad((output**3).sum(), images)
    assert gradient.abs().max() > 0


def test_no_mixed_devices_on_cuda():
    with FakeTensorMode(), torch.device("cuda"):
        network = MnistMosaicCNN()
        logits = network(torch.empty(4, 2, 56, 56))
        assert logits.device.type == "cuda" and logits.shape == (4, 2, 64)


def test_initial_spread_of_the_logits():
    instances = torch.rand(256, 56, 56, generator=torch.Generator().manual_seed(0))
    for spread in (0.5, 1.0):
        logits = MnistMosaicCNN(k=16, initial_spread=spread)(instances)
        assert torch.allclose(logits.std(0), torch.full((16,), spread), rtol=0.02)
