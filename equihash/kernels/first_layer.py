"""Convolution of images of one channel, max-pooling, ReLU and batch norm in one operation on the CPU."""

import torch
import torch.nn.functional as F
from torch import nn

from equihash.kernels import _first_layer
from equihash.kernels.max_pool import arrays, is_evaluated, scale_and_shift


def first_layer(images: torch.Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d | nn.Identity) -> torch.Tensor:
    """norm(ReLU(max_pool(conv(images)))), without padding, the pooling 2 x 2.

    Images float32 (n, height, width) become (n, channels, ...), channels last in memory; bfloat16 under autocast. On
    the CPU this takes half the time of PyTorch's operations one by one; the results differ only by rounding.
    """
    plain = images.device.type != "cpu" or images.requires_grad or {images.dtype, conv.weight.dtype} != {torch.float32}
    if plain or not _first_layer.takes(tuple(conv.weight.shape), tuple(images.shape)):
        images = images[:, None].contiguous(memory_format=torch.channels_last)
        return norm(F.relu(F.max_pool2d(conv(images), 2)))
    precision = torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32
    images = images.contiguous()
    if is_evaluated(images, conv, norm) and _first_layer.can_evaluate(tuple(images.shape)):
        return _evaluate(images, conv, norm, precision)
    if isinstance(norm, nn.BatchNorm2d):
        scale, shift, eps = norm.weight, norm.bias, norm.eps
        statistics = None if norm.training else (norm.running_mean, norm.running_var)
    else:
        zeros, ones = torch.zeros(conv.out_channels), torch.ones(conv.out_channels)
        scale, shift, eps, statistics = ones, zeros, 0.0, (zeros, ones)
    options = eps, statistics, precision
    output, mean, variance = _FirstLayer.apply(images, conv.weight, conv.bias, scale, shift, *options)
    if statistics is None:
        count = output.numel() // output.shape[1]
        norm.num_batches_tracked += 1
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * count / (count - 1), norm.momentum)
    return output


def _evaluate(images, conv, norm, precision):
    channels, _, height, width = conv.weight.shape
    weight, bias = conv.weight.detach().flatten(1).T, conv.bias.detach()
    constants = torch.cat([weight, torch.stack([bias, *scale_and_shift(norm, channels)])])
    pooled_shape = ((side - kernel + 1) // 2 for side, kernel in zip(images.shape[1:], (height, width)))
    output = torch.empty(len(images), *pooled_shape, channels, dtype=precision)
    _first_layer.evaluate(*arrays(images, F.pad(constants, (0, -channels % 32)), output))
    return output.permute(0, 3, 1, 2)


class _FirstLayer(torch.autograd.Function):
    @staticmethod
    def forward(ctx, images, weight, bias, scale, shift, eps, statistics, precision):
        channels, _, height, width = weight.shape
        rows, columns = images.shape[1] - height + 1, images.shape[2] - width + 1
        weight = weight.detach()[:, 0].permute(1, 2, 0).contiguous()
        pooled = torch.empty(len(images), rows // 2, columns // 2, channels, dtype=precision)
        kept = torch.empty(pooled.shape, dtype=torch.uint8)
        sums = torch.empty(len(images), 2, channels)
        _first_layer.forward(*arrays(images, weight, bias, pooled, kept, sums))
        if statistics is None:
            mean, square = sums.double().sum(0) / (pooled.numel() // channels)
            variance = (square - mean**2).clamp(min=0)
        else:
            mean, variance = (statistic.double() for statistic in statistics)
        inverse = (variance + eps).rsqrt()
        slope = (scale * inverse).float()
        output = torch.empty_like(pooled)
        _first_layer.scale_and_shift(*arrays(pooled, slope, (shift - mean * slope).float(), output))
        ctx.save_for_backward(images, pooled, kept, slope, mean, inverse)
        ctx.weight_shape, ctx.own_statistics = weight.shape, statistics is None
        mean, variance = mean.float(), variance.float()
        ctx.mark_non_differentiable(mean, variance)
        return output.permute(0, 3, 1, 2), mean, variance

    @staticmethod
    def backward(ctx, gradient, *_):
        images, pooled, kept, slope, mean, inverse = ctx.saved_tensors
        gradient = gradient.permute(0, 2, 3, 1).contiguous()
        sums = torch.empty(len(images), 2, len(slope))
        _first_layer.gradient_sums(*arrays(gradient, pooled, sums))
        shift, product = sums.double().sum(0)
        scale = inverse * (product - mean * shift)
        factors = torch.stack([slope.double(), torch.zeros_like(mean), torch.zeros_like(mean)])
        if ctx.own_statistics:  # they depend on `pooled`, too
            count = pooled.numel() // len(slope)
            factors[1] = -slope * inverse * scale / count
            factors[2] = -slope * shift / count - mean * factors[1]
        weight = torch.empty(len(images), *ctx.weight_shape)
        bias = torch.empty(len(images), len(slope))
        _first_layer.backward(*arrays(images, gradient, pooled, kept, factors.float(), weight, bias))
        # sums over images, in the same order for any number of threads
        weight, bias = weight.sum(0).permute(2, 0, 1)[:, None], bias.sum(0)
        return None, weight, bias, scale.float(), shift.float(), None, None, None
