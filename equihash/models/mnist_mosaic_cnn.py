"""The small convolutional network of the FastMnistMosaic task."""

import torch
import torch.nn.functional as F
from torch import nn

from equihash.kernels.first_layer import first_layer
from equihash.kernels.max_pool import max_pool
from equihash.models.network import Network


class MnistMosaicCNN(Network):
    """Three convolutions and two linear layers: (..., 56, 56) float32 to logits (..., k).

    Each convolution is followed by max-pooling and a ReLU (which commute; pooling first is less work), and
    batch norm stands before the next convolution. The parameters have the names of the published checkpoints.

    Parameters
    ----------
    k
        Bits of the fingerprint.
    batch_norm
    initial_spread
        Standard deviation of the logits before the first step, with batch norm. A small one makes soft bits at first:
        fingerprints of a class agree more often, but more bits are alike.
    """

    takes = "float", (56, 56)

    def __init__(self, k: int = 64, batch_norm: bool = True, initial_spread: float = 1.0):
        super().__init__()
        self.k = k
        norm2d, norm1d = (nn.BatchNorm2d, nn.BatchNorm1d) if batch_norm else (nn.Identity, nn.Identity)
        self.conv1 = nn.Conv2d(1, 24, 5)
        self.conv2 = nn.Conv2d(24, 32, 3)
        self.conv3 = nn.Conv2d(32, 48, 3, padding=1)
        self.conv2_bn = norm2d(24)
        self.conv3_bn = norm2d(32)
        self.fc1 = nn.Linear(48 * 6 * 6, 512)
        self.fc2 = nn.Linear(512, k)
        self.bn = norm1d(k)
        if batch_norm:
            nn.init.constant_(self.bn.weight, initial_spread)

    def logits(self, instances: torch.Tensor) -> torch.Tensor:
        x = first_layer(instances, self.conv1, self.conv2_bn)  # (n, 24, 26, 26)
        x = max_pool(self.conv2(x), self.conv3_bn)  # (n, 32, 12, 12)
        x = max_pool(self.conv3(x), nn.Identity())  # (n, 48, 6, 6)
        x = F.relu(self.fc1(x.flatten(1)))
        with torch.autocast("cuda" if x.is_cuda else "cpu", enabled=False):  # a bit is a sign: no rounding before it
            return self.bn(self.fc2(x.float()))
