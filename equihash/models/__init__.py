"""Networks from instances to logits."""

from equihash.models.mnist_mosaic_cnn import MnistMosaicCNN
from equihash.models.resnet import MnistResNet, Uint8ResNet

__all__ = ["MnistMosaicCNN", "MnistResNet", "Uint8ResNet"]
