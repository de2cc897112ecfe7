"""Muon for matrices, Adam for the rest."""

import pytest
import torch
from conftest import REPOSITORY, assert_same, quick
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from equihash import optimizers
from equihash.config import load_config, try_recipe
from equihash.datasets import MnistMosaic
from equihash.errors import UserError
from equihash.models import MnistMosaicCNN
from equihash.optimizers import MuonWithAuxAdam, orthogonalized
from equihash.state import load_trainer
from equihash.trainers import HashNetTrainer

MNIST = REPOSITORY / "data" / "datasets" / "Mnist" / "mnist.hdf5"


@pytest.mark.parametrize("shape", [(24, 25), (40, 512), (60, 16), (1, 5)])
def test_orthogonalized_keeps_the_singular_vectors_and_evens_out_the_values(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    s = torch.linspace(0.05, 1, len(s))  # a condition that five steps can even out
    matrix = u * s @ vt
    found = u.T @ orthogonalized(matrix) @ vt.T
    assert found.diagonal().min() > 0.6 and found.diagonal().max() < 1.25
    torch.testing.assert_close(found, found.diagonal().diag(), rtol=0, atol=1e-4)
    torch.testing.assert_close(orthogonalized(100 * matrix), orthogonalized(matrix), rtol=0, atol=1e-4)


def test_rows_that_hardly_move_count_as_zero():
    """Denormal numbers would make the products slow."""
    matrix = torch.randn(40, 60, generator=torch.Generator().manual_seed(1))
    matrix[:10] *= 1e-38
    found = orthogonalized(matrix)
    assert not found[:10].any()
    torch.testing.assert_close(found[10:], orthogonalized(matrix[10:]))


def steps(optimizer_class, parameters, **kwargs):
    """Take five steps down a bowl, and return the parameters."""
    parameters = [nn.Parameter(parameter.clone()) for parameter in parameters]
    optimizer = optimizer_class(parameters, **kwargs)
    for _ in range(5):
        optimizer.zero_grad()
        sum((parameter**4).sum() for parameter in parameters).backward()
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def test_vectors_are_moved_as_by_adam():
    vectors = [torch.randn(7, generator=torch.Generator().manual_seed(2)), torch.tensor(3.0)]
    kwargs = {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3}
    torch.testing.assert_close(
        steps(MuonWithAuxAdam, vectors, **kwargs), steps(torch.optim.Adam, vectors, **kwargs), rtol=1e-5, atol=1e-6
    )


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch before 2.9 has no Muon")
def test_matrices_are_moved_as_by_muon():
    matrices = [torch.randn(shape, generator=torch.Generator().manual_seed(3)) for shape in ((12, 30), (30, 12))]
    found = steps(MuonWithAuxAdam, matrices, lr=0.1, momentum=0.9)
    wanted = steps(torch.optim.Muon, matrices, lr=0.1, momentum=0.9, weight_decay=0, adjust_lr_fn="match_rms_adamw")
    for before, after, reference in zip(matrices, found, wanted):  # torch's computes in bfloat16
        assert (after - reference).norm() < 0.03 * (after - before).norm()


def test_a_convolution_is_a_matrix_with_a_row_for_each_output():
    weight = torch.randn(6, 2, 3, 3, generator=torch.Generator().manual_seed(4))
    (flat,) = steps(MuonWithAuxAdam, [weight.flatten(1)])
    (found,) = steps(MuonWithAuxAdam, [weight])
    torch.testing.assert_close(found.flatten(1), flat)
    (found,) = steps(MuonWithAuxAdam, [weight.contiguous(memory_format=torch.channels_last)])
    torch.testing.assert_close(found.flatten(1), flat)


def test_steps_stay_on_the_device():
    with FakeTensorMode(), torch.device("cuda"):
        network = MnistMosaicCNN(k=16)
        optimizer = MuonWithAuxAdam(network.parameters())
        for _ in range(2):
            for parameter in network.parameters():
                parameter.grad = torch.empty_like(parameter)
            optimizer.step()
        tensors = [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
        assert {tensor.device.type for tensor in tensors} == {"cuda"} and len(tensors) == 5 + 2 * 11


def trainer(optim_class="MuonWithAuxAdam", **kwargs):
    torch.manual_seed(0)
    network = MnistMosaicCNN(k=16)
    loader = MnistMosaic(MNIST, size=8, seed=1)
    return HashNetTrainer(network, loader, nb_batch_per_step=1, optim_class=optim_class, **kwargs)


def test_a_run_goes_on_where_it_stopped():
    whole, first, second = trainer(), trainer(), trainer()
    whole.train(4)
    first.train(2)
    second.network.load_state_dict(first.network.state_dict())
    load_trainer(second, first.state_dict(), "state.pth")
    second.train(2)
    assert_same(whole.network.state_dict(), second.network.state_dict())
    assert_same(whole.state_dict()["optim"], second.state_dict()["optim"])


@pytest.mark.parametrize("kwargs", [{"lr": -1.0}, {"momentum": 1.0}, {"betas": (0.9, 1.0)}, {"eps": -1e-8}])
def test_values_out_of_bounds_are_refused(kwargs):
    with pytest.raises(UserError, match="MuonWithAuxAdam"):
        trainer(optim_kwargs=kwargs)


class RowMomentum(torch.optim.Optimizer):
    """An optimizer of one's own: momentum and history of the rows of a weight, two groups, a format of its own."""

    def __init__(self, params, decay=0.9, **defaults):
        params = list(params)
        groups = [{"params": [p for p in params if (p.ndim > 1) == matrices]} for matrices in (True, False)]
        super().__init__(groups, {"lr": 0.01, **defaults})
        self.decay = decay

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                state, rows = self.state[parameter], parameter.grad.reshape(len(parameter), -1).mean(1)
                momentum = state.get("rows", 0) * self.decay + rows
                state.update(rows=momentum, history=torch.stack([*state.get("history", []), rows]))
                parameter.sub_(momentum.view(-1, *[1] * (parameter.ndim - 1)), alpha=group["lr"])

    def state_dict(self):
        return {"own": super().state_dict()}

    def load_state_dict(self, state):
        super().load_state_dict(state["own"])


def test_an_optimizer_of_ones_own_resumes(workspace, monkeypatch):
    monkeypatch.setattr(optimizers, "RowMomentum", RowMomentum, raising=False)
    words = ["trainer_kwargs:optim_class:RowMomentum", 'trainer_kwargs:optim_kwargs:{"decay": 0.8}', "nb_steps:2"]
    command = ["train.py", "FastMnistMosaic", "HashNet", *quick(*words, "eval_size:8")]
    workspace.check([*command, "-p", "1"])
    whole = workspace.state("HashNet")
    assert whole["trainer"]["optim"]["own"]["state"][0]["history"].shape == (2, 24)
    assert "from step 1" in workspace.check([*command, "-l", "1"])
    assert_same(workspace.state("HashNet"), whole)


def test_a_mistake_in_an_optimizer_of_ones_own_shows_itself(monkeypatch):
    class Mistaken(torch.optim.SGD):
        def load_state_dict(self, state):
            self.no_such_thing.clear()

    monkeypatch.setattr(optimizers, "Mistaken", Mistaken, raising=False)
    first, second = trainer("Mistaken"), trainer("Mistaken")
    first.train(1)
    with pytest.raises(AttributeError, match="no_such_thing"):
        load_trainer(second, first.state_dict(), "state.pth")
    monkeypatch.setattr(Mistaken, "step", lambda self: torch.zeros_like())
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(TypeError, match="zeros_like"):
        try_recipe(load_config("FastMnistMosaic", "HashNet", overrides=["trainer_kwargs:optim_class:Mistaken"]))
