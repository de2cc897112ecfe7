"""Networks from instances to logits."""

from equihash.models.mnist_mosaic_cnn import MnistMosaicCNN

__all__ = ["MnistMosaicCNN"]
