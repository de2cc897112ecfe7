"""The losses of the field that ShannonHamming is compared with: each against its definition, number by number in
double precision, and each trainer through all stages.
"""

import math
from functools import partial

import pytest
import torch
from conftest import REPOSITORY, quick
from torch._subclasses.fake_tensor import FakeTensorMode

from equihash import losses, trainers
from equihash.datasets import MnistMosaic
from equihash.errors import UserError
from equihash.losses import hash_centres
from equihash.models import MnistMosaicCNN

MODELS = ("HashNetShannon", "DPSH", "DCH", "AlignUniform", "SSCD", "GreedyHash", "CSQ", "OrthoHash")
N, K, NB_CLASSES = 6, 8, 5
SIMILAR = torch.tensor([True, True, False, True, False, False])
CLASSES = torch.tensor([4, 0, 2, 2, 1, 3])


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


CENTRES = torch.where(normal(NB_CLASSES, K, seed=1) > 0, 1.0, -1.0).double()
WEIGHTS = normal(NB_CLASSES, K, seed=2)


def sigma(x):
    return 1 / (1 + math.exp(-x))


def sign(x):
    return 1 if x > 0 else -1


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def cosine(a, b):
    return dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))


def mean(values):
    values = [*values]
    return sum(values) / len(values)


def softmax_cost(scores, of):
    return -math.log(math.exp(scores[of]) / sum(map(math.exp, scores)))


def plain_dpsh(pairs):
    probabilities = [sigma(dot(u, v) / 2) for u, v in pairs]
    cost = mean(-math.log(p if y else 1 - p) for p, y in zip(probabilities, SIMILAR))
    return cost + 0.3 * mean(sum((x - sign(x)) ** 2 for x in z) for pair in pairs for z in pair)


def plain_dch(pairs, gamma=3.0):
    def cauchy(g, h):
        return gamma / (gamma + K / 2 * (1 - cosine(g, h)))

    codes = [[[math.tanh(x) for x in z] for z in pair] for pair in pairs]
    cost = mean(-math.log(cauchy(*pair) if y else 1 - cauchy(*pair)) for pair, y in zip(codes, SIMILAR))
    return cost + 0.3 * mean(-math.log(cauchy([abs(x) for x in h], [1] * K)) for pair in codes for h in pair)


def plain_align_uniform(pairs):
    units = [[[math.tanh(x) / math.hypot(*map(math.tanh, z)) for x in z] for z in pair] for pair in pairs]
    alignment = mean(math.dist(u, v) ** 2 for u, v in units)
    apart = mean(
        math.exp(-3.0 * math.dist(u, v) ** 2)
        for i, first in enumerate(units) for second in units[:i] for u in first for v in second
    )  # fmt: skip
    quantization = mean(sum((abs(x) - 1 / math.sqrt(K)) ** 2 for x in u) for pair in units for u in pair)
    return alignment + 0.2 * math.log(apart) + 0.3 * quantization


def plain_sscd(pairs, temperature=0.2):
    outputs = [[x / math.sqrt(dot(z, z)) for x in z] for pair in pairs for z in pair]
    info_nce, koleo = [], []
    for i, u in enumerate(outputs):
        partner = i + 1 if i % 2 == 0 else i - 1
        others = [j for j in range(2 * N) if j != i]
        scores = [dot(u, outputs[j]) / temperature for j in others]
        info_nce.append(softmax_cost(scores, others.index(partner)))
        koleo.append(-math.log(min(math.dist(u, outputs[j]) for j in others if j != partner)))
    return mean(info_nce) + 0.3 * mean(koleo)


def plain_greedyhash(logits):
    rows = WEIGHTS.tolist()
    cost = mean(
        softmax_cost([dot(row, [sign(x) for x in z]) for row in rows], of) for z, of in zip(logits, CLASSES.tolist())
    )
    return cost + 0.3 * mean(abs(x - sign(x)) ** 3 for z in logits for x in z)


def plain_csq(logits):
    central, quantization = [], []
    for z, of in zip(logits, CLASSES.tolist()):
        for x, bit in zip(z, CENTRES[of].tolist()):
            central.append(-math.log(sigma(x) if bit == 1 else 1 - sigma(x)))
            quantization.append(math.log(math.cosh(abs(2 * sigma(x) - 1) - 1)))
    return mean(central) + 0.3 * mean(quantization)


def plain_orthohash(logits):
    costs = []
    for z, of in zip(logits, CLASSES.tolist()):
        scores = [8.0 * (cosine(z, centre) - 0.2 * (number == of)) for number, centre in enumerate(CENTRES.tolist())]
        costs.append(softmax_cost(scores, of))
    return mean(costs)


def csq(logits):
    return losses.csq_loss(logits, CENTRES[CLASSES].to(logits), 0.3)


def orthohash(logits):
    return losses.orthohash_loss(logits, CLASSES, CENTRES.to(logits), 8.0, 0.2)


def greedyhash(logits, weights=WEIGHTS):
    return losses.greedyhash_loss(logits, CLASSES, lambda bits: bits @ weights.to(bits).T, 0.3)


PAIRS = {
    "DPSH": (partial(losses.dpsh_loss, similar=SIMILAR, quantization_coeff=0.3), plain_dpsh),
    "DCH": (partial(losses.dch_loss, similar=SIMILAR, gamma=3.0, quantization_coeff=0.3), plain_dch),
    "AlignUniform": (
        partial(losses.align_uniform_loss, uniformity_t=3.0, uniformity_coeff=0.2, quantization_coeff=0.3),
        plain_align_uniform,
    ),
    "SSCD": (partial(losses.sscd_loss, temperature=0.2, koleo_coeff=0.3), plain_sscd),
}
SINGLE = {
    "GreedyHash": (greedyhash, plain_greedyhash),
    "CSQ": (csq, plain_csq),
    "OrthoHash": (orthohash, plain_orthohash),
}
LOSSES = {**PAIRS, **SINGLE}


def logits_for(name, seed=0):
    return 1.5 * normal(*((N, 2, K) if name in PAIRS else (N, K)), seed=seed)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("seed", [3, 4, 5])
def test_the_loss_is_as_defined(name, seed):
    loss, plain = LOSSES[name]
    logits = logits_for(name, seed)
    assert loss(logits).item() == pytest.approx(plain(logits.tolist()), rel=1e-9)
    in_float32 = loss(logits.float())
    assert in_float32.dtype == torch.float32 and in_float32.item() == pytest.approx(plain(logits.tolist()), rel=1e-5)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "GreedyHash"])
def test_the_gradient_is_that_of_the_loss(name):
    assert torch.autograd.gradcheck(LOSSES[name][0], logits_for(name).requires_grad_())


def test_the_gradient_of_greedyhash_passes_the_signs_unchanged():
    logits = logits_for("GreedyHash").requires_grad_()
    bits = logits.detach().sign().requires_grad_()
    (through,) = torch.autograd.grad(torch.nn.functional.cross_entropy(bits @ WEIGHTS.T, CLASSES), bits)
    away = logits.detach() - logits.detach().sign()
    (gradient,) = torch.autograd.grad(greedyhash(logits), logits)
    torch.testing.assert_close(gradient, through + 0.3 * 3 * away.abs() * away / (N * K))
    assert torch.autograd.gradcheck(
        lambda weights: greedyhash(logits.detach(), weights), WEIGHTS.clone().requires_grad_()
    )


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("value", [0.0, 1e-30, 60.0, 1e4])
def test_losses_and_gradients_are_finite(name, value):
    """Logits of 0, saturated ones, and instances that coincide though they are of different classes."""
    for logits in (torch.full_like(logits_for(name), value), value * logits_for(name)):
        logits = logits.float().requires_grad_()
        loss = LOSSES[name][0](logits)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.isfinite() and gradient.isfinite().all()


def test_uniformity_needs_two_classes():
    loader = MnistMosaic(REPOSITORY / "data" / "datasets" / "Mnist" / "mnist.hdf5", size=1, seed=0)
    with pytest.raises(UserError, match="size must be at least 2"):
        trainers.AlignUniformTrainer(MnistMosaicCNN(k=16), loader)


def test_bits_are_signs_exactly():
    logits = torch.tensor([-100.3, -1e-8, 0.0, 1e-8, 0.7, 1e8])
    assert losses.straight_through_signs(logits).tolist() == [-1, -1, -1, 1, 1, 1]


@pytest.mark.parametrize("nb_classes, k", [(1, 8), (40, 64), (128, 64)])
def test_hadamard_centres(nb_classes, k):
    centres = hash_centres(nb_classes, k)
    assert centres.shape == (nb_classes, k) and centres.dtype == torch.float32 and centres.abs().eq(1).all()
    products = (centres @ centres.T).fill_diagonal_(0)
    assert set(products.unique().tolist()) <= {0, -k} and torch.equal(centres, hash_centres(2 * k, k)[:nb_classes])


@pytest.mark.parametrize("nb_classes, k", [(129, 64), (2000, 64), (30, 40)])
def test_random_centres(nb_classes, k):
    centres = hash_centres(nb_classes, k)
    assert centres.shape == (nb_classes, k) and centres.abs().eq(1).all() and centres.sum(dim=1).eq(0).all()
    assert len(centres.unique(dim=0)) == nb_classes and centres.mean().item() == 0
    assert centres.mean(dim=0).abs().max() < 5 / math.sqrt(nb_classes)
    assert torch.equal(centres, hash_centres(nb_classes, k))


def test_everything_runs_on_the_logits_device():
    """Fake tensors stand for a GPU's: an operation that mixes devices, or waits for a value, raises."""
    with FakeTensorMode():
        pairs, logits = torch.empty(N, 2, K, device="cuda"), torch.empty(N, K, device="cuda")
        similar = torch.empty(N, dtype=torch.bool, device="cuda")
        classes = torch.empty(N, dtype=torch.int64, device="cuda")
        centres = torch.empty(NB_CLASSES, K, device="cuda")
        for loss in (
            losses.dpsh_loss(pairs, similar, 0.1),
            losses.dch_loss(pairs, similar, 20.0, 0.1),
            losses.align_uniform_loss(pairs, 4.0, 0.03, 0.1),
            losses.sscd_loss(pairs, 0.05, 30.0),
            losses.greedyhash_loss(logits, classes, torch.nn.Linear(K, NB_CLASSES, device="cuda"), 0.1),
            losses.csq_loss(logits, centres[classes], 0.1),
            losses.orthohash_loss(logits, classes, centres, 8.0, 0.2),
        ):
            assert loss.device.type == "cuda" and loss.shape == ()


# The trainers


def make(model, **kwargs):
    torch.manual_seed(0)
    loader = MnistMosaic(REPOSITORY / "data" / "datasets" / "Mnist" / "mnist.hdf5", size=8, seed=0)
    if model in ("GreedyHash", "CSQ", "OrthoHash"):
        kwargs["nb_classes"] = 5
    trainer_class = getattr(trainers, f"{model}Trainer")
    return trainer_class(MnistMosaicCNN(k=16), loader, nb_batch_per_step=2, optim_kwargs={"lr": 0.003}, **kwargs)


@pytest.mark.parametrize("model", MODELS)
def test_the_loss_is_minimised(model):
    """A few steps on the very same batches lower the loss; each trainer moves all its parameters."""
    trainer = make(model)
    before = [parameter.clone() for parameter in trainer.parameters]
    values = []
    for _ in range(8):
        trainer.loader.reseed(1)
        trainer.train(1)
        values.append(trainer.aggregate()["loss"])
    assert values[-1] < values[0]
    assert all(not torch.equal(a, b) for a, b in zip(before, trainer.parameters))


def test_hashnet_shannon_is_both():
    trainer = make("HashNetShannon", alpha=0.3, shannon_lambda=0.02)
    logits = normal(2, 8, 2, 16).requires_grad_()
    target = torch.arange(16).reshape(2, 8) % 3 == 0
    (gradient,) = torch.autograd.grad(trainer.loss(logits, target), logits)
    hashnet = losses.hashnet_loss(logits.flatten(0, 1), target.flatten(), 0.3, 1.0)
    (expected,) = torch.autograd.grad(hashnet, logits)
    shannon = losses.shannon_gradient(logits.detach().view(-1, 16), losses.all_tuples(16, 3))
    torch.testing.assert_close(gradient, expected + 0.02 * shannon.view_as(logits))


def test_hashnet_shannon_logs_its_parts():
    trainer = make("HashNetShannon", shannon_lambda=0.5)
    trainer.train(1)
    entry = trainer.aggregate()
    shannon_loss = -0.5 * entry["shannon_entropy"] * math.comb(16, 3)
    assert entry["loss"] == pytest.approx(entry["hashnet_loss"] + shannon_loss, rel=1e-6)


@pytest.fixture(scope="module")
def labelled(shared_workspace):
    shared_workspace.check("generate_labels.py FastMnistMosaic DB -b50 -d500 -p50 -n50 -t50 -m 2 2")
    return shared_workspace


@pytest.mark.parametrize("model", MODELS)
def test_the_whole_chain(labelled, model):
    labelled.check(["train.py", "FastMnistMosaic", model, *quick("nb_steps:2")])
    labelled.check(f"encode.py FastMnistMosaic DB {model} -d cpu --build_index")
    labelled.check(f"evaluate_binary_equihash.py FastMnistMosaic DB {model} -d cpu --no_queries")
    state = labelled.state(model)
    assert state["trainer"]["step"] == 2 and state["config"]["trainer_class"] == f"{model}Trainer"
    folder = f"data/experiments/FastMnistMosaic/{model}/main/current/test_DB"
    assert 0 <= labelled.json(f"{folder}/results.json")["relevant_collision_rate"] <= 1
