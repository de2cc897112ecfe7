"""ResNets (He et al., CVPR 2016) that make logits of mosaics."""

import torch
from torch import nn

from equihash.errors import UserError, nearest
from equihash.models.network import Network

VERSIONS = (18, 34, 50)


class _LogitsResNet(Network):
    """torchvision's ResNet, its layers under their names there, in channels_last, with k logits as its output."""

    def __init__(self, k: int, batch_norm: bool, version: int):
        if version not in VERSIONS:
            raise UserError(f"unknown ResNet version {version!r}{nearest(version, VERSIONS)}")
        super().__init__()
        from torchvision import models  # here, as it takes two seconds

        for name, layer in getattr(models, f"resnet{version}")().named_children():
            setattr(self, name, layer)
        nb_features = self.fc.in_features
        if batch_norm:
            self.fc = nn.Sequential(nn.Linear(nb_features, k, bias=False), nn.BatchNorm1d(k))
        else:
            self.fc = nn.Linear(nb_features, k)
        self.k = k

    def _use_channels_last(self):
        # Module.to would do, were it not that it cannot change the layout of fake tensors.
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the logits of scaled images (n, c, h, w)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


class Uint8ResNet(_LogitsResNet):
    """ResNet for colour images: uint8 (..., 3, h, w) to logits (..., k). The input is scaled to [-1, 1].

    Parameters
    ----------
    k
        Number of logits.
    batch_norm
        Whether the last layer is linear without bias and then batch-normalised, or linear with bias.
    version : 18, 34 or 50
    HWC
        Whether the images are (..., h, w, 3).
    """

    def __init__(self, k: int = 64, batch_norm: bool = True, version: int = 18, HWC: bool = False):
        super().__init__(k, batch_norm, version)
        self.HWC = HWC
        self.takes = "uint8", ("height", "width", 3) if HWC else (3, "height", "width")
        self._use_channels_last()

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        images = images.permute(0, 3, 1, 2) if self.HWC else images
        # The layout is changed first, while a pixel is 3 bytes.
        images = images.contiguous(memory_format=torch.channels_last).to(self.conv1.weight.dtype)
        return super().logits(images.div_(127.5).sub_(1))


class MnistResNet(_LogitsResNet):
    """ResNet for images of one channel: float (..., h, w) to logits (..., k). The input is not scaled.

    For the parameters see `Uint8ResNet`.
    """

    takes = "float", ("height", "width")

    def __init__(self, k: int = 64, batch_norm: bool = True, version: int = 18):
        super().__init__(k, batch_norm, version)
        self.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self._use_channels_last()

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        return super().logits(images[:, None])
