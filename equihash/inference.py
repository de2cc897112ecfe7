"""Logits of a trained network, in bounded memory."""

import torch

from equihash.devices import autocast

PART_BYTES = {"cpu": 2**23, "cuda": 2**27}  # of instances that go through the network at once


def rows_at_once(instances: torch.Tensor) -> int:
    """How many of the instances (n, ...) go through the network together."""
    return max(PART_BYTES[instances.device.type] // instances[0].nbytes, 1)


def compute_logits(
    network: torch.nn.Module, instances: torch.Tensor, precision: torch.dtype = torch.float32
) -> torch.Tensor:
    """Return the logits of instances (n, ...), n at least 1: float32 (n, ..., k).

    They are computed part by part, so that the activations stay small. The network is in evaluation mode.
    """
    with torch.inference_mode(), autocast(instances.device, precision):
        return torch.cat([network(part).float() for part in instances.split(rows_at_once(instances))])
