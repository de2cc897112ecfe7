"""The network and the data set of a configuration."""

import numpy as np
import torch
from torch import nn

from equihash.config import find_class
from equihash.datasets.dataset import Dataset
from equihash.errors import UserError


def build_network(config: dict, device: torch.device) -> nn.Module:
    """Make the network of a configuration on `device`; PyTorch's global random stream initialises it."""
    if config["network_kwargs"].get("k", 8) % 8:
        raise UserError(f"network_kwargs:k must be a multiple of 8 (whole bytes), not {config['network_kwargs']['k']}")
    network = find_class(config, "network")(**config["network_kwargs"])
    return network.to(device, memory_format=torch.channels_last)  # two to three times faster on the CPU


def build_loader(config: dict, which: str, device: torch.device, seed: int | None = None) -> Dataset:
    """Make the data set of a configuration for one split, "train", "valid" or "test"; see `Dataset` for the seed."""
    return find_class(config, "loader")(**config["loader_kwargs"], which=which, device=device, seed=seed)


def check_instances(network: nn.Module, loader: Dataset) -> None:
    """Try a network on two instances of the loader, and the loader on its generator.

    Raises
    ------
    UserError
        The loader does not take all of its noise from the generator that it is given, so that no item could be made
        again; or the network does not give `k` logits of an instance.
    """
    labels = np.zeros((2, *loader.mosaic_shape), np.int64)
    first, again = (loader.batch_from_labels(labels, torch_generator=loader.noise_generator(0)) for _ in range(2))
    if not torch.equal(first, again):
        raise UserError(
            f"{type(loader).__name__}.batch_from_labels does not take all of its noise from torch_generator: two "
            "batches made from one state of it differ"
        )
    training = network.training
    with torch.inference_mode():
        logits = network.eval()(first)
    network.train(training)
    if getattr(logits, "shape", None) != (2, network.k):
        raise UserError(
            f"{type(network).__name__} gives {tuple(logits.shape)} of instances {tuple(first.shape)}, not one row of "
            f"{network.k} logits each: change network_class or loader_kwargs"
        )
