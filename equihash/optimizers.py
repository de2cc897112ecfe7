"""The optimizers that a configuration can name: those of torch.optim, Muon for whole networks, and any that is defined
or imported here.
"""

import inspect
import sys
from collections.abc import Callable, Iterable
from contextlib import contextmanager

import torch
from torch.optim import *  # noqa: F403

from equihash.errors import UserError, nearest
from equihash.signatures import parameters

UNSUITABLE = ("LBFGS", "SparseAdam", "ReduceLROnPlateau")  # their steps need more than the gradient
NEWTON_SCHULZ = 3.4445, -4.7750, 2.0315  # a, b, c of a s + b s^3 + c s^5, which takes 5 steps from (0, 1] to about 1
NEGLIGIBLE = 1e-15  # share of a matrix's norm


class MuonWithAuxAdam(torch.optim.Optimizer):
    """Muon for weights of two or more dimensions, Adam for the others (biases, batch norms).

    Muon moves a weight by the orthogonal matrix nearest to its momentum, so that directions of small gradient are
    learned as fast as those of large. It needs fewer steps than Adam; each costs 34 m^3 + 4 m^2 n FLOP more for a
    weight of m x n, m <= n. Convolutions are matrices with a row for each output channel; torch.optim.Muon takes
    matrices only.

    Parameters
    ----------
    params
        Tensors or groups.
    lr
        Of both: an orthogonal matrix is scaled to the root mean square of Adam's steps, 0.2 lr.
    momentum
        Of Muon, which looks ahead like Nesterov's.
    betas, eps
        Of Adam.

    References
    ----------
    K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
    J. Liu et al., "Muon is Scalable for LLM Training", 2025 (the scale).
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ):
        if not lr >= 0 or not all(0 <= value < 1 for value in (momentum, *betas)) or not eps >= 0:
            raise ValueError("lr and eps must be at least 0, momentum and betas at least 0 and below 1")
        super().__init__(params, {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable | None = None):
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    step = self._muon_step if parameter.ndim > 1 else self._adam_step
                    parameter.sub_(step(self.state[parameter], parameter.grad, **group), alpha=group["lr"])
        return loss

    def _muon_step(self, state, gradient, momentum, **_):
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        buffer = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        matrix = gradient.lerp(buffer, momentum).flatten(1)
        return (orthogonalized(matrix) * (0.2 * max(matrix.shape) ** 0.5)).view_as(gradient)

    def _adam_step(self, state, gradient, betas, eps, **_):
        if "exp_avg_sq" not in state:
            state.update(step=0, exp_avg=torch.zeros_like(gradient), exp_avg_sq=torch.zeros_like(gradient))
        state["step"] += 1
        mean = state["exp_avg"].lerp_(gradient, 1 - betas[0]) / (1 - betas[0] ** state["step"])
        square = state["exp_avg_sq"].lerp_(gradient**2, 1 - betas[1]) / (1 - betas[1] ** state["step"])
        return mean / (square.sqrt() + eps)


def orthogonalized(matrix: torch.Tensor, nb_steps: int = 5) -> torch.Tensor:
    """Return about U V^T for a matrix U S V^T: its singular values become about 1 (0.7 to 1.2).

    The steps of Newton and Schulz apply an odd polynomial to the singular values, by matrix products alone. Of the
    products, all but two are of m x m matrices: with G = X X^T, a step is X -> P X, G -> P G P, P = a + b G + c G^2.
    """
    a, b, c = NEWTON_SCHULZ

    def polynomial(gram):
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal().add_(a)
        return factor

    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / (wide.norm() + 1e-7)
    # The momentum of a unit that no longer learns shrinks for ever, and CPUs are slow with numbers below 1e-38.
    wide = wide.masked_fill(wide.abs() < NEGLIGIBLE, 0.0)
    gram = wide @ wide.T
    product = factor = polynomial(gram)
    for _ in range(nb_steps - 1):
        gram = factor @ gram @ factor
        factor = polynomial(gram)
        product = factor @ product
    wide = product @ wide
    return wide.T if matrix.shape[0] > matrix.shape[1] else wide


def make(
    role: str, name: str, target: list[torch.Tensor] | torch.optim.Optimizer, kwargs: dict | None
) -> torch.optim.Optimizer | torch.optim.lr_scheduler.LRScheduler:
    """Make the optimizer or the learning-rate schedule that a configuration names.

    Parameters
    ----------
    role : "optim" or "lr_scheduler"
    name
        A class of this module, or of torch.optim.lr_scheduler; a `UserError` if there is none, or it refuses `kwargs`.
    target
        The parameters, or the optimizer.
    """
    schedules = torch.optim.lr_scheduler
    module, base = {
        "optim": (sys.modules[__name__], torch.optim.Optimizer),
        "lr_scheduler": (schedules, schedules.LRScheduler),
    }[role]
    classes = {key: cls for key, cls in vars(module).items() if inspect.isclass(cls) and issubclass(cls, base)}
    names = {*classes} - {base.__name__, "_LRScheduler", *UNSUITABLE}
    if str(name) not in names:
        raise UserError(f"unknown trainer_kwargs:{role}_class {name!r}{nearest(name, names)}")
    takes = [*parameters(classes[name])][1:]
    for key in kwargs or {}:
        if key not in takes:
            raise UserError(f"{name} takes no trainer_kwargs:{role}_kwargs:{key}{nearest(key, takes)}")
    with _blaming(role, classes[name], kwargs, (TypeError, ValueError)):
        return classes[name](target, **(kwargs or {}))


def try_out(
    nb_steps: int,
    optim_class: str,
    optim_kwargs: dict | None,
    lr_scheduler_class: str | None,
    lr_scheduler_kwargs: dict | None,
) -> None:
    """Take the first steps of a run, at most two, with a single weight: a `UserError` if PyTorch refuses a value."""
    weight = torch.zeros(1, 1, requires_grad=True)
    weight.grad = torch.ones_like(weight)
    # `capturable` is for GPUs only
    optim_kwargs = {key: value for key, value in (optim_kwargs or {}).items() if key != "capturable"}
    optimizer = make("optim", optim_class, [weight], optim_kwargs)
    schedule = None
    if lr_scheduler_class is not None:
        schedule = make("lr_scheduler", lr_scheduler_class, optimizer, lr_scheduler_kwargs)
    for _ in range(min(nb_steps, 2)):
        with _blaming("optim", type(optimizer), optim_kwargs):
            optimizer.step()
        if schedule is not None:
            with _blaming("lr_scheduler", type(schedule), lr_scheduler_kwargs):
                schedule.step()


@contextmanager
def _blaming(role, cls, kwargs, own=()):
    """Make any error of a class of PyTorch, and the `own` errors of others, a `UserError` about `kwargs`."""
    try:
        yield
    except Exception as error:
        if not (cls.__module__.startswith("torch.") or isinstance(error, own)):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"trainer_kwargs:{role}_kwargs: {cls.__name__}: {reason} (given {kwargs})") from error
