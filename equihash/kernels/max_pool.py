"""Max-pooling and ReLU in one operation on the CPU; for a network that is evaluated, with batch norm."""

import torch
import torch.nn.functional as F
from torch import nn

from equihash.kernels import _max_pool


def max_pool(images: torch.Tensor, norm: nn.BatchNorm2d | nn.Identity) -> torch.Tensor:
    """norm(ReLU(max_pool(images))), the pooling 2 x 2.

    Images (n, channels, height, width) become (n, channels, height // 2, width // 2) of the same dtype. On the CPU
    this takes a fraction of the time of PyTorch's operations one by one. The results differ only by rounding.
    """
    plain = images.device.type != "cpu" or images.dtype not in (torch.float32, torch.bfloat16)
    if plain or not _max_pool.takes(tuple(images.shape)):
        return norm(F.relu(F.max_pool2d(images, 2)))
    if not is_evaluated(images, norm):
        return norm(_MaxPool.apply(images))
    n, channels, height, width = images.shape
    images = images.permute(0, 2, 3, 1).contiguous()
    output = torch.empty(n, height // 2, width // 2, channels, dtype=images.dtype)
    _max_pool.pool(*arrays(images, *scale_and_shift(norm, channels), output))
    return output.permute(0, 3, 1, 2)


def is_evaluated(images: torch.Tensor, *modules: nn.Module) -> bool:
    """Whether no gradient is asked for, and batch norm, if there is any, has its statistics."""
    tensors = [images, *(parameter for module in modules for parameter in module.parameters())]
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return False
    return not any(isinstance(module, nn.BatchNorm2d) and module.training for module in modules)


def scale_and_shift(norm: nn.BatchNorm2d | nn.Identity, channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What evaluation multiplies each channel by, and then adds to it: two of float32 (channels,)."""
    if isinstance(norm, nn.Identity):
        return torch.ones(channels), torch.zeros(channels)
    scale = norm.weight.detach() * (norm.running_var.double() + norm.eps).rsqrt()
    return scale.float(), (norm.bias.detach() - norm.running_mean.double() * scale).float()


def arrays(*tensors: torch.Tensor) -> list:
    """Views of tensors for Cython; those of bfloat16 as the integers of their bits."""
    return [(t.view(torch.int16) if t.dtype == torch.bfloat16 else t).detach().numpy() for t in tensors]


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, images):
        n, channels, height, width = images.shape
        images = images.detach().permute(0, 2, 3, 1).contiguous()
        output = torch.empty(n, height // 2, width // 2, channels, dtype=images.dtype)
        kept = torch.empty(output.shape, dtype=torch.uint8)
        _max_pool.keep(*arrays(images, output, kept))
        ctx.save_for_backward(kept)
        return output.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, gradient):
        (kept,) = ctx.saved_tensors
        gradient = gradient.permute(0, 2, 3, 1).contiguous()
        n, height, width, channels = gradient.shape
        images = torch.empty(n, 2 * height, 2 * width, channels, dtype=gradient.dtype)
        _max_pool.spread(*arrays(gradient, kept, images))
        return images.permute(0, 3, 1, 2)
