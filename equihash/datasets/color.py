"""The noise of hue and lightness in natural mosaics.

With L = (max + min) / 2 the lightness and C = (max - min) / 2 the half chroma of a pixel, all values in [0, 1]:
saturation S = C / min(L, 1-L), and channel n (0 red, 8 green, 4 blue) = L + S min(L, 1-L) trapezoid(n, hue), where
trapezoid(n, hue) = -max(-1, min(k-3, 9-k, 1)), k = (n + 12 hue) mod 12.
"""

import torch

# Of each channel c, the pair (p, q) such that c rises with the hue where p > q.
RISES = ((2, 1), (0, 2), (1, 0))


def shift_hue_and_lightness(planes: torch.Tensor, hue: torch.Tensor, lightness: torch.Tensor) -> torch.Tensor:
    """Rotate the hue and move the lightness L to (1-|a|) L + max(a, 0), with the saturation kept.

    It gives what conversion to hue, lightness and saturation, the change, and conversion back would, without finding
    the hue. Let u_c = (c - L) / C: +1 for
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
