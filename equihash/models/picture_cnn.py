"""The small convolutional network of the PictureCopies task."""

import torch
import torch.nn.functional as F
from torch import nn

from equihash.errors import UserError
from equihash.models.network import Network


class PictureCNN(Network):
    """Six convolutions and two linear layers: uint8 (..., 3, h, w) to logits (..., k).

    A picture of any size is first scaled to a square of 64 to 96 pixels or so, whatever its shape. Every second
    convolution halves the sides; each is followed by batch norm and a ReLU. The features keep their places: where
    something is in a picture tells pictures apart.

    Parameters
    ----------
    k
        Bits of the fingerprint.
    side
        Of the square, in pixels, a multiple of 16.
    width
        Channels of the first convolution; the others have 2, 4, 4, 8 and 8 times as many.
    initial_spread
        Standard deviation of the logits before the first step.
    """

    BOUNDS = {"side": (32, 512), "width": (8, 256)}
    takes = "uint8", (3, "height", "width")

    def __init__(self, k: int = 64, side: int = 64, width: int = 24, initial_spread: float = 1.0):
        super().__init__()
        if side % 16:
            raise UserError(f"network_kwargs:side must be a multiple of 16, not {side}")
        self.k, self.side = k, side
        channels = [width * times for times in (1, 2, 4, 4, 8, 8)]
        strides = (2, 2, 1, 2, 1, 2)
        layers = []
        for before, after, stride in zip([3, *channels], channels, strides):
            size = 5 if before == 3 else 3
            layers += [nn.Conv2d(before, after, size, stride, size // 2, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.fc1 = nn.Linear(channels[-1] * (side // 16) ** 2, 512)
        self.fc2 = nn.Linear(512, k, bias=False)
        self.bn = nn.BatchNorm1d(k)
        nn.init.constant_(self.bn.weight, initial_spread)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        # The layout is changed first, while a pixel is 3 bytes.
        images = images.contiguous(memory_format=torch.channels_last).to(self.fc1.weight.dtype)
        if images.shape[2:] != (self.side, self.side):
            images = F.interpolate(images, (self.side, self.side), mode="bilinear", antialias=True)
        x = self.features(images.div_(127.5).sub_(1))
        return self.bn(self.fc2(F.relu(self.fc1(x.flatten(1)))))
