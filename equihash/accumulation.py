"""Gradient accumulation over the micro-batches of one training step, on one process or on several."""

import torch
from torch import nn

from equihash import distributed


class Accumulation:
    """The gradient and the batch-norm statistics of the micro-batches of a step, as a context.

    The number of processes that share the micro-batches changes the result only by rounding, and on the CPU not at all
    if each process has one thread and a power of two of micro-batches. For this, gradients add up pairwise, as in a
    tournament: the sums of two processes are partial sums of a single one. It matters, because Adam makes full steps
    even of a gradient that is only rounding, such as that of a bias before batch norm. The running statistics of batch
    norm follow those of the micro-batches in order, at the end.

    Parameters
    ----------
    network
    parameters
        Those of the network, and whatever else is trained.

    Attributes
    ----------
    gradients : list of tensors
        After the context: the sums over all micro-batches, which are also the `grad` of the parameters that have one.
    """

    def __init__(self, network: nn.Module, parameters: list[nn.Parameter]):
        self.parameters = parameters
        norms = [each for each in network.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
        self.norms = [(norm, norm.momentum) for norm in norms if norm.track_running_stats and norm.momentum is not None]
        self.sums = []  # [number of micro-batches, gradients], the numbers decreasing powers of two
        self.statistics = []

    def __enter__(self) -> "Accumulation":
        for parameter in self.parameters:
            parameter.grad = None
        if self.norms:
            self.before = self._running(), [norm.num_batches_tracked.clone() for norm, _ in self.norms]
            for norm, _ in self.norms:
                norm.momentum = 1.0  # the running statistics become those of the batch
        return self

    def add_statistics(self) -> None:
        """Keep the batch-norm statistics of the last forward pass."""
        if self.norms:
            self.statistics.append(self._running())

    def add_gradients(self) -> None:
        """Add the gradients of the last micro-batch, and clear them."""
        self.sums.append([1, [parameter.grad for parameter in self.parameters]])
        for parameter in self.parameters:
            parameter.grad = None
        while len(self.sums) > 1 and self.sums[-2][0] == self.sums[-1][0]:
            self._merge()

    def __exit__(self, failed, *_):
        for norm, momentum in self.norms:
            norm.momentum = momentum
        if self.norms:
            self._set_statistics([] if failed else distributed.gather(torch.stack(self.statistics)))
        if failed:
            return
        while len(self.sums) > 1:
            self._merge()
        for parameter, gradient in zip(self.parameters, self.sums[0][1]):
            parameter.grad = gradient
        self.gradients = [gradient for gradient in self.sums[0][1] if gradient is not None]
        distributed.add_up(self.gradients)

    def _merge(self):
        number, gradients = self.sums.pop()
        self.sums[-1][0] += number
        for gradient, more in zip(self.sums[-1][1], gradients):
            if gradient is not None:
                gradient += more

    def _running(self):
        """The running means and variances of all norms, one after the other: a copy."""
        return torch.cat([each for norm, _ in self.norms for each in (norm.running_mean, norm.running_var)])

    def _set_statistics(self, of_batches):
        """Update the running statistics from before the step by those of each micro-batch in turn."""
        running, tracked = self.before
        momenta = torch.cat([torch.full_like(norm.running_mean.repeat(2), momentum) for norm, momentum in self.norms])
        for statistics in of_batches:
            running = running.lerp(statistics, momenta)
        places = [each for norm, _ in self.norms for each in (norm.running_mean, norm.running_var)]
        for place, values in zip(places, running.split([len(place) for place in places])):
            place.copy_(values)
        for (norm, _), number in zip(self.norms, tracked):
            norm.num_batches_tracked.copy_(number + len(of_batches))
