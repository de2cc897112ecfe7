"""Hue, lightness and saturation, and the noise of hue and lightness in natural mosaics.

With L = (max + min) / 2 the lightness and C = (max - min) / 2 the half chroma of a pixel, all values in [0, 1]:
saturation S = C / min(L, 1-L), and channel n (0 red, 8 green, 4 blue) = L + S min(L, 1-L) trapezoid(n, hue), where
trapezoid(n, hue) = -max(-1, min(k-3, 9-k, 1)), k = (n + 12 hue) mod 12.
"""

import torch

# Of each channel c, the pair (p, q) such that c rises with the hue where p > q.
RISES = ((2, 1), (0, 2), (1, 0))


def rgb_to_hls(rgb: torch.Tensor) -> torch.Tensor:
    """Convert float (..., 3, h, w), red, green and blue in [0, 1], to hue in [0, 1), lightness and saturation."""
    red, green, blue = rgb.unbind(-3)
    high, low = rgb.amax(-3), rgb.amin(-3)
    chroma = high - low
    lightness = (high + low) / 2
    grey = chroma == 0
    saturation = torch.where(grey, 0, chroma / torch.where(lightness <= 0.5, high + low, 2 - high - low))
    hue = torch.where(
        red == high,
        (green - blue) / chroma,
        torch.where(green == high, 2 + (blue - red) / chroma, 4 + (red - green) / chroma),
    )
    return torch.stack([torch.where(grey, 0, hue / 6 % 1), lightness, saturation], dim=-3)


def hls_to_rgb(hls: torch.Tensor) -> torch.Tensor:
    """Inverse of `rgb_to_hls`."""
    hue, lightness, saturation = hls.unbind(-3)
    half_chroma = saturation * torch.minimum(lightness, 1 - lightness)
    channels = []
    for n in (0, 8, 4):
        k = (n + 12 * hue) % 12
        channels.append(lightness - half_chroma * torch.minimum(k - 3, 9 - k).clamp(-1, 1))
    return torch.stack(channels, dim=-3)


def shift_hue_and_lightness(planes: torch.Tensor, hue: torch.Tensor, lightness: torch.Tensor) -> torch.Tensor:
    """Rotate the hue and move the lightness L to (1-|a|) L + max(a, 0), with the saturation kept.

    It is rgb_to_hls, the change, and hls_to_rgb in a closed form that finds no hue. Let u_c = (c - L) / C: +1 for
    the highest channel, -1 for the lowest, and m for the middle one, hence m = sum of the u. The trapezoid of channel
    c is a triangle wave of slope 12 clipped to [-1, 1], and before the clipping it stands at 2 u_c - m (which is u_c
    after it). A rotation moves it by +-12 `hue`, up for a channel that rises with the hue; being less than 1/6, it
    cannot take the wave past its turning point and back into [-1, 1]. So the new u_c is
    clip(2 u_c - m +- 12 hue, -1, 1), and S stays where C changes as min(L, 1-L) does. All is multiplied by C below,
    so that grey (C = 0) is no special case.

    Parameters
    ----------
    planes : float (3, n, h, w)
        Red, green and blue of n images, values in [0, 255]; so are the values returned, but for rounding.
    hue, lightness : float (n,)
        Rotation in turns, less than 1/6 either way; a in [-1, 1].
    """
    hue, lightness = hue[:, None, None], lightness[:, None, None]
    red, green, blue = planes
    high = torch.maximum(red, green)
    low = torch.minimum(red, green)
    torch.maximum(high, blue, out=high)
    torch.minimum(low, blue, out=low)
    old = (high + low).mul_(0.5)
    half_chroma = high.sub_(low).mul_(0.5)
    rotation = torch.mul(half_chroma, 12 * hue, out=low)
    new = (old * (1 - lightness.abs())).add_(255 * lightness.clamp(min=0))
    # Where L is 0 or 255, C is 0: any finite gain will do.
    gain = torch.minimum(new, 255 - new).div_(torch.minimum(old, 255 - old).clamp_(min=1e-3))
    old.sub_(red).sub_(green).sub_(blue)  # C (2 u_c - m) = 2 c + L - (red + green + blue)
    lowest = half_chroma.neg()
    shifted = torch.empty_like(planes)
    for channel, (p, q) in enumerate(RISES):
        wave = torch.sub(planes[p], planes[q], out=shifted[channel]).sign_()
        torch.addcmul(old, wave, rotation, out=wave).add_(planes[channel], alpha=2)
        torch.clamp(wave, lowest, half_chroma, out=wave)
        torch.addcmul(new, gain, wave, out=wave)
    return shifted
