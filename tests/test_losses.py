"""The losses: against numbers from the published code, and against autograd in float64.

Relative errors are of norms, |actual - expected| / |expected|, over all elements of an array: the golden values are
float32, and elements that are small differences of large terms have no four correct digits of their own.
"""

import itertools
import os
from math import comb

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from equihash import losses
from equihash.losses import shannon

HERE = os.path.dirname(os.path.abspath(__file__))


def golden(name):
    with np.load(os.path.join(HERE, "golden", f"{name}.npz")) as file:
        return dict(file)


def relative_error(actual, expected):
    actual = torch.as_tensor(actual).detach().double()
    expected = torch.as_tensor(expected).double()
    assert actual.shape == expected.shape
    return float((actual - expected).norm() / expected.norm())


def logits_of(nb_rows, nb_bits, seed=0, scale=3.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(nb_rows, nb_bits, generator=generator, dtype=torch.float64)).to(dtype)


def some_tuples(nb_bits, size, number, seed=0):
    tuples = losses.all_tuples(nb_bits, size)
    return np.random.RandomState(seed).permutation(tuples)[:number]


def autograd_gradient(logits, tuples, gradient_type="normal", prior=1.0):
    """Gradient in float64, of -sum H or of the linear form that has the log-ratios of the hard bits."""
    z = logits.double().requires_grad_()
    p = torch.stack([(-z).sigmoid(), z.sigmoid()], dim=-1)
    hard = torch.stack([z <= 0, z > 0], dim=-1).double()
    loss = 0.0
    for bits in tuples.tolist():
        joint, count = p[:, bits[0]], hard[:, bits[0]]
        for bit in bits[1:]:
            joint = (joint[:, :, None] * p[:, bit, None]).flatten(1)
            count = (count[:, :, None] * hard[:, bit, None]).flatten(1)
        joint = joint.mean(dim=0)
        if gradient_type == "normal":
            loss = loss + torch.special.xlogy(joint, joint).sum()
        else:
            loss = loss + (joint * (count.sum(dim=0) + prior).log()).sum()
    return torch.autograd.grad(loss, z)[0]


# Golden numbers


@pytest.mark.parametrize("gradient_type", ["normal", "pseudo-smooth"])
@pytest.mark.parametrize("case", ["16_pairs", "16_triplets", "16_quads", "64_triplets", "saturated_triplets"])
def test_shannon_golden(case, gradient_type):
    data = golden("shannon_gradient")
    which, kind = case.split("_")
    logits = torch.tensor(data["logits_saturated" if which == "saturated" else f"logits{which}"])
    size = {"pairs": 2, "triplets": 3, "quads": 4}[kind]
    tuples = data["tuples16_4"] if size == 4 else losses.all_tuples(logits.shape[1], size)
    expected = data[f"grad_{case}_{gradient_type}"]
    actual = losses.shannon_gradient(logits, tuples, gradient_type=gradient_type)
    assert actual.dtype == torch.float32
    assert relative_error(actual, expected) < 1e-5
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())


def test_hamming_and_huber_golden():
    data = golden("hamming_huber")
    z = torch.tensor(data["pair_logits"], requires_grad=True)
    loss = losses.hamming_loss(z)
    loss.backward()
    assert relative_error(loss, data["hamming_loss"]) < 1e-5
    assert relative_error(z.grad, data["hamming_grad"]) < 1e-5
    z = torch.tensor(data["huber_logits"], requires_grad=True)
    loss = losses.huber_loss(z, float(data["huber_maximum_slope"]), float(data["huber_branching_point"]))
    loss.backward()
    assert relative_error(loss, data["huber_loss"]) < 1e-5
    assert relative_error(z.grad, data["huber_grad"]) < 1e-5


@pytest.mark.parametrize("beta", [1.0, 2.5])
def test_hashnet_golden(beta):
    data = golden("hashnet")
    z = torch.tensor(data["pair_logits"], requires_grad=True)
    loss = losses.hashnet_loss(z, torch.tensor(data["similar"]), float(data["alpha"]), beta)
    loss.backward()
    assert relative_error(loss, data[f"losses_beta{beta}"].mean()) < 1e-5
    assert relative_error(z.grad, data[f"grad_beta{beta}"]) < 1e-5


def test_beta_schedule_golden():
    data = golden("hashnet")
    np.testing.assert_allclose([losses.beta_schedule(int(step)) for step in data["beta_steps"]], data["betas"])


def test_jmlh_golden():
    data = golden("jmlh")
    z = torch.tensor(data["logits"], requires_grad=True)
    classifier = torch.nn.Linear(64, 50)
    classifier.load_state_dict({"weight": torch.tensor(data["weight"]), "bias": torch.tensor(data["bias"])})
    loss = losses.jmlh_loss(z, torch.tensor(data["labels"]), 0.5, classifier, float(data["kld_coeff"]))
    loss.backward()
    assert relative_error(loss, data["loss"]) < 1e-5
    assert relative_error(z.grad, data["grad"]) < 1e-5
    assert relative_error(classifier.weight.grad, data["weight_grad"]) < 1e-5
    assert relative_error(losses.bernoulli_kld(z), data["kld"]) < 1e-5


def test_tuples_golden():
    data = golden("tuples64")
    np.testing.assert_array_equal(losses.training_tuples(64, 4, 3), data["cover43"])
    np.testing.assert_array_equal(losses.training_tuples(64, 4, 3, 166656), data["minimum166656"])
    np.testing.assert_array_equal(losses.training_tuples(64, 3, 3), losses.all_tuples(64, 3))


# Shannon gradient


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    size=st.integers(2, 5),
    nb_bits=st.integers(5, 9),
    nb_rows=st.integers(1, 20),
    number=st.integers(1, 40),
    chunk_size=st.integers(1, 25),
    gradient_type=st.sampled_from(["normal", "pseudo-smooth"]),
    seed=st.integers(0, 99),
)
def test_shannon_is_the_gradient(size, nb_bits, nb_rows, number, chunk_size, gradient_type, seed):
    logits = logits_of(nb_rows, nb_bits, seed, dtype=torch.float64)
    tuples = some_tuples(nb_bits, size, number, seed)
    actual = losses.shannon_gradient(logits, tuples, gradient_type, 0.5, chunk_size)
    expected = autograd_gradient(logits, tuples, gradient_type, 0.5)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_both_methods_agree(size, monkeypatch):
    """The products with all bits and the gathered ones, with blocks small enough for there to be several."""
    monkeypatch.setattr(shannon, "BLOCK_ROWS", 256)
    monkeypatch.setattr(shannon, "BUFFER_SIZE", 1 << 13)
    logits = logits_of(50, 11, dtype=torch.float64)
    tuples = losses.all_tuples(11, size)
    plan = losses.ShannonGradient(tuples, 11)
    assert isinstance(plan.method, shannon.AllTuples)
    expected = plan(logits, chunk_size=7)
    plan.method = shannon.SomeTuples(tuples, "cpu")
    torch.testing.assert_close(plan(logits), expected, rtol=1e-9, atol=1e-12)


def plain_entropy(logits, tuples, gradient_type, prior):
    """Sum of the entropies of tuples, each from the table of its joint distribution."""
    ones = logits.sigmoid() if gradient_type == "normal" else (logits > 0).double()
    total = 0.0
    for bits in tuples:
        probabilities = []
        for values in itertools.product((0, 1), repeat=len(bits)):
            factors = [ones[:, bit] if value else 1 - ones[:, bit] for bit, value in zip(bits, values)]
            probabilities.append(torch.stack(factors).prod(0).sum() + prior * (gradient_type != "normal"))
        probabilities = torch.stack(probabilities) / sum(probabilities)
        total -= torch.special.xlogy(probabilities, probabilities).sum()
    return total


@pytest.mark.parametrize("gradient_type", ["normal", "pseudo-smooth"])
@pytest.mark.parametrize("size, number", [(2, 21), (3, 35), (4, 20), (5, 9)])
def test_entropy_is_that_of_the_joint_distributions(gradient_type, size, number):
    logits = logits_of(30, 7, dtype=torch.float64)
    tuples = some_tuples(7, size, number)
    gradient, entropy = losses.ShannonGradient(tuples, 7)(logits, gradient_type, prior=0.5)
    torch.testing.assert_close(entropy, plain_entropy(logits, tuples, gradient_type, 0.5), rtol=1e-12, atol=0)
    in_float32 = losses.ShannonGradient(tuples, 7)(logits.float(), gradient_type, prior=0.5)[1]
    torch.testing.assert_close(in_float32, entropy, rtol=1e-6, atol=0)
    assert torch.equal(gradient, losses.shannon_gradient(logits, tuples, gradient_type, 0.5))


def test_entropy_of_equal_and_of_independent_bits():
    same = torch.full((40, 5), 60.0)
    independent = torch.tensor(list(itertools.product((-60.0, 60.0), repeat=5)))
    for size in (2, 3, 4):
        plan, nb_tuples = losses.ShannonGradient(losses.all_tuples(5, size), 5), comb(5, size)
        assert abs(plan(same)[1].item()) < 1e-5 * nb_tuples
        assert plan(independent)[1].item() == pytest.approx(nb_tuples * size * np.log(2), rel=1e-6)


@pytest.mark.parametrize("tuples", [losses.all_tuples(10, 3), some_tuples(10, 4, 50)], ids=["all", "some"])
def test_shannon_is_equivariant(tuples):
    """Neither the order of tuples, nor that of their bits, nor the bits' names, nor the instances' order matters."""
    random = np.random.RandomState(0)
    logits = logits_of(30, 10)
    expected = losses.shannon_gradient(logits, tuples)
    shuffled = random.permutation(tuples)[:, random.permutation(tuples.shape[1])]
    torch.testing.assert_close(losses.shannon_gradient(logits, shuffled), expected, rtol=1e-4, atol=1e-6)
    bits, rows = random.permutation(10), random.permutation(30)
    renamed = losses.shannon_gradient(logits[rows][:, bits], np.argsort(bits)[tuples])
    torch.testing.assert_close(renamed, expected[rows][:, bits], rtol=1e-4, atol=1e-6)
    as_tensor = losses.shannon_gradient(logits, torch.tensor(tuples))
    assert torch.equal(as_tensor, expected)


@pytest.mark.parametrize("scale", [0.3, 1.0, 10.0, 40.0])
@pytest.mark.parametrize("size, number", [(3, 560), (4, 300)], ids=["all", "some"])
def test_shannon_float32(scale, size, number):
    """Float32 keeps a relative error of 1e-5, from logits near 0 to saturated ones."""
    logits = logits_of(1500, 16, scale=scale)
    tuples = some_tuples(16, size, number)
    actual = losses.shannon_gradient(logits, tuples)
    assert torch.isfinite(actual).all()
    assert relative_error(actual, losses.shannon_gradient(logits.double(), tuples)) < 1e-5


@pytest.mark.parametrize("gradient_type", ["normal", "pseudo-smooth"])
def test_shannon_of_constant_saturated_bits(gradient_type):
    """No bit ever changes: gradients of 1e-20 are right, and those below float32 are 0."""
    tuples = some_tuples(8, 3, 20)
    logits = 50.0 + logits_of(20, 8, scale=1.0)
    actual = losses.shannon_gradient(logits, tuples, gradient_type)
    expected = losses.shannon_gradient(logits.double(), tuples, gradient_type)
    assert relative_error(actual, expected) < 1e-5
    for value in (-1e4, 1e4):
        actual = losses.shannon_gradient(torch.full((5, 8), value), tuples, gradient_type, prior=0.0)
        assert torch.equal(actual, torch.zeros(5, 8))


@pytest.mark.parametrize("size", [3, 4])
def test_chunk_size_does_not_matter(size):
    logits, tuples = logits_of(100, 12), some_tuples(12, size, 220)
    expected = losses.shannon_gradient(logits, tuples, chunk_size=1000)
    for chunk_size in (1, 33, 100):
        assert relative_error(losses.shannon_gradient(logits, tuples, chunk_size=chunk_size), expected) < 1e-5


def test_shannon_ignores_autocast():
    logits, tuples = logits_of(100, 12), some_tuples(12, 4, 100)
    expected = losses.shannon_gradient(logits, tuples)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(losses.shannon_gradient(logits, tuples), expected)


@pytest.mark.parametrize("tuples", [[[0, 0, 1]], [[0, 9]], [[-1, 2]], [[1], [2]], np.empty((0, 3))])
def test_wrong_tuples(tuples):
    with pytest.raises(ValueError):
        losses.shannon_gradient(torch.zeros(4, 5), tuples)


def test_wrong_gradient_type():
    with pytest.raises(ValueError):
        losses.shannon_gradient(torch.zeros(4, 5), [[0, 1]], gradient_type="smooth")


# The other losses


def test_hamming_and_huber_formulas():
    z = logits_of(20, 12).reshape(10, 2, 12)
    p, q = z.double().sigmoid(), (-z.double()).sigmoid()
    expected = -(p.prod(dim=1) + q.prod(dim=1)).log().sum(dim=1).mean()
    torch.testing.assert_close(losses.hamming_loss(z).double(), expected, rtol=1e-5, atol=0)
    expected = torch.nn.functional.huber_loss(z, torch.zeros_like(z), reduction="none", delta=2.0).sum(dim=-1).mean()
    torch.testing.assert_close(losses.huber_loss(z, 2.0, 2.0), expected)
    assert losses.huber_loss(z, 0.0, 9.0) == 0


def test_saturated_logits_keep_a_gradient():
    z = torch.tensor([[[200.0, 1e4], [-300.0, 1e4]]], requires_grad=True)
    for function in (losses.hamming_loss, losses.bernoulli_kld, lambda z: losses.hashnet_loss(z, True, 0.15, 2.0)):
        (gradient,) = torch.autograd.grad(function(z), z)
        assert torch.isfinite(gradient).all()
    (gradient,) = torch.autograd.grad(losses.hamming_loss(z), z)
    torch.testing.assert_close(gradient, torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]))


def test_straight_through_bits():
    z = logits_of(2000, 4, scale=1.0).requires_grad_()
    noise = torch.rand(z.shape, generator=torch.Generator().manual_seed(0))
    bits = losses.straight_through_bits(z, noise)
    assert set(bits.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(bits.mean(), z.sigmoid().mean(), rtol=0, atol=0.02)
    (gradient,) = torch.autograd.grad(bits.sum(), z)
    torch.testing.assert_close(gradient, z.sigmoid() * (-z).sigmoid())
    assert torch.equal(losses.straight_through_bits(z, 0.5), (z > 0).float())
    assert torch.equal(losses.straight_through_bits(z, noise, "sign"), 2 * bits - 1)
    with pytest.raises(ValueError):
        losses.straight_through_bits(z, noise, "round")


# Tuples


@pytest.mark.parametrize("n, k, cover, number", [(10, 4, 3, 1), (10, 4, 2, 100), (6, 4, 3, 1), (5, 4, 3, 99)])
def test_covering_tuples_as_specified(n, k, cover, number):
    tuples = losses.covering_tuples(n, k, cover, np.random.RandomState(1), number)
    rows = [tuple(row) for row in tuples.tolist()]
    assert rows == sorted(set(rows)) and all(len(set(row)) == k and list(row) == sorted(row) for row in rows)
    covered = {tuple(row[list(places)]) for row in tuples for places in losses.all_tuples(k, cover)}
    assert len(covered) == len(losses.all_tuples(n, cover))
    everything = len(losses.all_tuples(n, k))
    assert len(rows) >= min(number, everything)


def test_covering_tuples_draws():
    """For 10 bits, the numbers drawn one by one make the same tuples."""
    random_state, expected = np.random.RandomState(5), set()
    for subset in losses.all_tuples(10, 2).tolist():
        while True:
            candidate = tuple(sorted({*subset, *random_state.randint(0, 10, 2).tolist()}))
            if len(candidate) == 4 and candidate not in expected:
                expected.add(candidate)
                break
    actual = losses.covering_tuples(10, 4, 2, np.random.RandomState(5))
    np.testing.assert_array_equal(actual, sorted(expected))


# Devices


@pytest.mark.parametrize("gradient_type", ["normal", "pseudo-smooth"])
def test_everything_runs_on_the_logits_device(gradient_type):
    """Fake tensors stand for a GPU's: an operation that mixes devices, or waits for a value, raises."""
    with FakeTensorMode():
        logits = torch.empty(100, 12, device="cuda")
        for tuples in (losses.all_tuples(12, 3), some_tuples(12, 4, 50), some_tuples(12, 5, 50)):
            plan = losses.ShannonGradient(tuples, 12, "cuda")
            gradient, entropy = plan(logits, gradient_type)
            assert gradient.device.type == "cuda" and gradient.shape == logits.shape
            assert entropy.device.type == "cuda" and entropy.shape == ()
        pairs = logits.view(50, 2, 12)
        similar = torch.empty(50, dtype=torch.bool, device="cuda")
        labels = torch.empty(100, dtype=torch.int64, device="cuda")
        classifier = torch.nn.Linear(12, 7, device="cuda")
        for loss in (
            losses.hamming_loss(pairs),
            losses.huber_loss(logits, 0.1, 9.0),
            losses.hashnet_loss(pairs, similar, 0.15, 2.0),
            losses.jmlh_loss(logits, labels, 0.5, classifier, 0.1),
        ):
            assert loss.device.type == "cuda" and loss.shape == ()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_shannon_on_gpu():
    logits = logits_of(500, 16)
    for tuples in (losses.all_tuples(16, 3), some_tuples(16, 4, 300)):
        actual = losses.shannon_gradient(logits.cuda(), tuples).cpu()
        assert relative_error(actual, losses.shannon_gradient(logits.double(), tuples)) < 1e-5
