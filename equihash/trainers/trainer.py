"""The training loop of all losses."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import starmap

import torch
from torch import nn

from equihash import distributed, optimizers
from equihash.accumulation import Accumulation
from equihash.datasets.dataset import Dataset
from equihash.devices import autocast, available_memory
from equihash.errors import Diverged, UserError

SATURATION = 9.0  # |logit| above which a bit counts as saturated


class Trainer:
    """Base of the trainers: gradient accumulation, clipping, log and state.

    A subclass implements two methods:

    - `draw(generator)` draws the labels of a micro-batch, and whatever else of it is random;
    - `loss(logits, target)` is the scalar to minimise.

    A step accumulates the gradient of `nb_batch_per_step` micro-batches, each with batch-norm statistics of its own,
    clips its values and updates the weights once. Several processes (`equihash.distributed`) share the micro-batches;
    the weights are those of one process that has them all.

    Parameters
    ----------
    network
        From instances (..., *instance_shape) to logits (..., k).
    loader
        Makes the labels and instances, of the training split.
    optim_class, optim_kwargs
        Optimizer of torch.optim or `equihash.optimizers`.
    lr_scheduler_class, lr_scheduler_kwargs
        Learning-rate schedule of torch.optim.lr_scheduler, updated once per step.
    clip_value
        Bound on the absolute value of each gradient entry.
    nb_batch_per_step
        Micro-batches of a step.
    forward_passes : "auto", "one" or "two"
        Only for a `joint_loss`: keep the activations of all micro-batches ("one"), or recompute them for the backward
        pass ("two": less memory, a third more work, the same gradient). "auto" measures whether the activations fit.
    modules
        Trained, saved and restored with the network.
    precision
        What the network's forward pass computes in.
    """

    #: Whether `loss` needs the logits of all micro-batches of a step at once.
    joint_loss = False
    BOUNDS = {"clip_value": (0, None), "nb_batch_per_step": (1, None)}

    def __init__(
        self,
        network: nn.Module,
        loader: Dataset,
        optim_class: str = "Adam",
        optim_kwargs: dict = {},  # noqa: B006
        lr_scheduler_class: str | None = None,
        lr_scheduler_kwargs: dict = {},  # noqa: B006
        clip_value: float = 10.0,
        nb_batch_per_step: int = 8,
        forward_passes: str = "auto",
        modules: dict[str, nn.Module] | None = None,
        precision: torch.dtype = torch.float32,
    ):
        self.network, self.loader, self.precision = network, loader, precision
        self.modules = {name: module.to(loader.device) for name, module in (modules or {}).items()}
        self.parameters = [*network.parameters()]
        for module in self.modules.values():
            self.parameters += module.parameters()
        self.optimizer = optimizers.make("optim", optim_class, self.parameters, optim_kwargs)
        self.scheduler = None
        if lr_scheduler_class is not None:
            self.scheduler = optimizers.make("lr_scheduler", lr_scheduler_class, self.optimizer, lr_scheduler_kwargs)
        if forward_passes not in ("auto", "one", "two"):
            raise UserError(f"trainer_kwargs:forward_passes must be auto, one or two, not {forward_passes!r}")
        if nb_batch_per_step % distributed.nb_processes():
            raise UserError(
                f"trainer_kwargs:nb_batch_per_step ({nb_batch_per_step}) must be a multiple of the number of processes "
                f"({distributed.nb_processes()}), which share the micro-batches of a step"
            )
        self.recipe = [optim_class, optim_kwargs, lr_scheduler_class, lr_scheduler_kwargs]
        self.clip_value, self.nb_batch_per_step = clip_value, nb_batch_per_step
        self.forward_passes = forward_passes
        self.look_ahead = loader.device.type == "cuda"  # on a CPU, no core is idle
        self.step = 0
        self.training_log = {}
        self._step_values = {}  # name -> what this step recorded
        self._pending = {}  # name -> one value a step since the last `aggregate`

    def draw(self, generator: torch.Generator) -> tuple:
        """Draw a micro-batch.

        The labels come from the loader's label stream. `generator`, on the loader's device, is for this micro-batch
        alone: what else is random comes from it, then the noise of the instances.

        Returns
        -------
        labels : integers (..., height, width)
            An instance is made of each; see `Dataset.positive_pairs_labels` and others.
        target
            For `loss`; a tensor or None for a `joint_loss`.
        """
        raise NotImplementedError

    def loss(self, logits: torch.Tensor, target) -> torch.Tensor:
        """Return the scalar to minimise. Only a `joint_loss` may draw from the label stream.

        Parameters
        ----------
        logits : float32 (..., k)
            The network's output for an instance of each label; for a `joint_loss` those of all micro-batches, stacked.
        target
            From `draw`; for a `joint_loss` stacked, too.
        """
        raise NotImplementedError

    def record(self, **values: torch.Tensor | float) -> None:
        """Log scalars of this step; those of several micro-batches are averaged."""
        for name, value in values.items():
            self._step_values.setdefault(name, []).append(torch.as_tensor(value, device=self.loader.device).detach())

    def train(self, nb_steps: int, stop: Callable[[], bool] = lambda: False) -> None:
        """Take `nb_steps` steps, fewer if `stop()` becomes true, with a progress bar.

        Raises
        ------
        Diverged
            A logged value is not finite; the message names the step.
        """
        shown = time.monotonic()
        with distributed.progress_bar(total=nb_steps, desc=f"step {self.step}", unit="step") as bar:
            for _ in range(nb_steps):
                self._take_step()
                if time.monotonic() - shown > 1 or self.loader.device.type == "cpu":  # reading waits for a GPU
                    shown = time.monotonic()
                    self._show(bar)
                bar.update()
                if stop():
                    break
        self._check_finite()

    def _take_step(self):
        self._step_values = {}
        self.network.train()
        with Accumulation(self.network, self.parameters) as accumulation:
            if self.joint_loss:
                self._joint_backward(accumulation)
            else:
                self._separate_backward(accumulation)
        self._log_step(accumulation.gradients)
        torch.nn.utils.clip_grad_value_(self.parameters, self.clip_value)
        self.optimizer.step()
        if self.scheduler is not None:
            self._move_schedule()
        self.step += 1

    def _separate_backward(self, accumulation):
        """Accumulate the gradient of each micro-batch's loss."""
        for instances, target in self._micro_batches():
            logits = self._forward(instances)
            accumulation.add_statistics()
            loss = self.loss(logits, target)
            (loss / self.nb_batch_per_step).backward()
            accumulation.add_gradients()
            self.record(loss=loss, saturated_fraction=saturated_fraction(logits))

    def _joint_backward(self, accumulation):
        """Accumulate the gradient of one loss of the logits of all micro-batches of all processes."""
        batches, outputs = [], []
        for instances, target in self._micro_batches():
            batches.append((instances, target))
            with torch.set_grad_enabled(self._keeps_activations(instances)):
                outputs.append(self._forward(instances))
            accumulation.add_statistics()
        logits = distributed.gather(torch.stack([output.detach() for output in outputs])).requires_grad_()
        if target is not None:
            target = distributed.gather(torch.stack([target for _, target in batches]))
        loss = self.loss(logits, target)
        loss.backward()
        own_gradient = logits.grad[distributed.rank() * len(batches) :]
        for number, (instances, _) in enumerate(batches):
            output = outputs[number] if self._keeps_activations(instances) else self._forward(instances)
            output.backward(own_gradient[number])
            accumulation.add_gradients()
            outputs[number] = None  # frees the activations
        self.record(loss=loss, saturated_fraction=saturated_fraction(logits))

    def _micro_batches(self) -> Iterator[tuple[torch.Tensor, object]]:
        """Yield (instances, target) of this process's micro-batches of a step; on a GPU the next is prepared meanwhile.

        Each process draws all labels, so that the label streams of all stay equal. The noise of a micro-batch has a
        generator of its own, so that no process makes the instances of another.
        """
        generators = [self.loader.noise_generator(self.step, number) for number in range(self.nb_batch_per_step)]
        draws = []
        for generator in generators:
            labels, target = self.draw(generator)
            draws.append((labels, target, generator))
        each = self.nb_batch_per_step // distributed.nb_processes()
        own = draws[distributed.rank() * each :][:each]

        def make(labels, target, generator):
            return self.loader.batch_from_labels(labels, torch_generator=generator), target

        if not self.look_ahead:
            yield from starmap(make, own)
            return
        with ThreadPoolExecutor(1) as pool:
            making = pool.submit(make, *own[0])
            for following in [*own[1:], None]:
                batch = making.result()
                making = following and pool.submit(make, *following)
                yield batch

    def _forward(self, instances):
        with autocast(self.loader.device, self.precision):
            return self.network(instances).float()

    def _keeps_activations(self, instances):
        """Whether a step has one forward pass; the first instances decide "auto"."""
        if self.forward_passes == "auto":
            needed = saved_bytes(lambda: self._forward(instances)) * self.nb_batch_per_step
            self.forward_passes = "one" if needed < available_memory(self.loader.device) / 2 else "two"
        return self.forward_passes == "one"

    def _move_schedule(self):
        try:
            self.scheduler.step()
        except ValueError as error:  # OneCycleLR beyond its total_steps
            raise UserError(
                f"the learning-rate schedule ends at step {self.step}: {error}; set "
                "trainer_kwargs:lr_scheduler_kwargs for as many steps as nb_steps"
            ) from error

    def _log_step(self, gradients):
        """Keep the means of the values recorded in this step, and the fraction of the gradients that is clipped."""
        for name, values in self._step_values.items():
            values = torch.stack(values).float()
            # for a joint loss all processes have recorded the same
            values = values if self.joint_loss else distributed.gather(values)
            self._pending.setdefault(name, []).append(values.mean())
        clipped = sum((gradient.abs() > self.clip_value).sum() for gradient in gradients)
        fraction = clipped / sum(gradient.numel() for gradient in gradients)
        self._pending.setdefault("clipped_fraction", []).append(fraction)

    def _check_finite(self):
        """Raise `Diverged`, naming the first step since the last `aggregate` with a value that is not finite."""
        names = list(self._pending)
        if not names:
            return
        values = torch.stack([torch.stack(self._pending[name]) for name in names]).cpu()  # (names, steps)
        bad = (~values.isfinite()).nonzero()
        if len(bad):
            which, position = bad[bad[:, 1].argmin()].tolist()
            step = self.step - values.shape[1] + position + 1
            raise Diverged(
                f"{names[which]} is {values[which, position].item()} at step {step}: training stopped, the last "
                "saved state is kept; lower optim_kwargs:lr or clip_value"
            )

    def _show(self, bar):
        """Show the losses of the last step."""
        losses = {name: values[-1].item() for name, values in self._pending.items() if name.endswith("loss")}
        bar.set_description(f"step {self.step}", refresh=False)
        bar.set_postfix({name: f"{value:.4g}" for name, value in losses.items()}, refresh=False)

    def aggregate(self) -> dict[str, float]:
        """Return the mean of each logged value over the steps since the last call, and log it as of this step."""
        entry = {name: torch.stack(values).double().mean().item() for name, values in self._pending.items()}
        entry["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        self._pending = {}
        self.training_log[self.step] = entry
        return entry

    def state_dict(self) -> dict:
        """All that a resumed run needs besides the network's weights."""
        return {
            "step": self.step,
            "precision": str(self.precision),
            "recipe": self.recipe,
            "loader": self.loader.state_dict(),
            "optim": self.optimizer.state_dict(),
            "scheduler": self.scheduler and self.scheduler.state_dict(),
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "training_log": self.training_log,
            "pending": {name: torch.stack(values).tolist() for name, values in self._pending.items()},
        }

    def load_state_dict(self, state: dict) -> None:
        """Restore what `state_dict` returned.

        The state of a published file lacks the modules (JMLH's classifier): they and the optimizer stay as they are. If
        the optimizer or the schedule was another, the new values hold: the schedule starts from its beginning, and an
        optimizer of the same class keeps its moments.
        """
        recipe = state.get("recipe", self.recipe)
        self.step = state["step"]
        self.loader.load_state_dict(state["loader"])
        missing = [name for name in self.modules if name not in state.get("modules", {})]
        for name in missing:
            print(f"warning: the state holds no {name}: it starts untrained")
        for name, module in self.modules.items():
            if name not in missing:
                module.load_state_dict(state["modules"][name])
        wanted = [{**group, "params": None} for group in self.optimizer.param_groups]
        if recipe[0] == self.recipe[0] and not missing:
            self.optimizer.load_state_dict(state["optim"])
        else:
            print("warning: the optimizer's state is of another optimizer or other parameters: it starts without")
        if recipe != self.recipe:
            for group, values in zip(self.optimizer.param_groups, wanted):
                group.update({key: value for key, value in values.items() if key != "params"})
        elif self.scheduler is not None and state.get("scheduler"):
            self.scheduler.load_state_dict(state["scheduler"])
        self.training_log = dict(state["training_log"])
        pending = state.get("pending", {})
        self._pending = {name: list(torch.tensor(row, device=self.loader.device)) for name, row in pending.items()}


def saturated_fraction(logits: torch.Tensor) -> torch.Tensor:
    return (logits.abs() > SATURATION).float().mean()


def saved_bytes(forward: Callable[[], torch.Tensor]) -> int:
    """Bytes of the activations that a forward pass keeps for the backward pass."""
    sizes = {}

    def note(tensor):
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        forward()
    return sum(sizes.values())
