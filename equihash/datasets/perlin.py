"""Lattice-gradient noise (Perlin, "Improving Noise", SIGGRAPH 2002), as matrix products.

A random unit gradient stands at each point of a square lattice. The noise at (y, x) is the sum over the four corners
(i, j) of the cell around it of f(y-i) f(x-j) (g_y (y-i) + g_x (x-j)), in units of the lattice, where
f(d) = 1 - fade(|d|) and fade(t) = 6t^5 - 15t^4 + 10t^3, which is smooth across the cells. Since f is 0 beyond a
distance of 1, the sum may run over the whole lattice, and it is separable: with F[y, i] = f(y-i) and
D[y, i] = (y-i) f(y-i), a map is [D_y G_y, F_y G_x] [F_x, D_x]^T.
"""

import math

import torch

FULL_SCALE = 127  # of the published maps, which are int8


class PerlinNoise:
    """Noise maps of one size and one lattice.

    The lattice lies at a random place under each map: were it fixed, the noise would always be 0 at its points.

    Parameters
    ----------
    height, width
        Size of a map in pixels.
    period
        Distance of the lattice points in pixels; it need not divide the size.
    """

    def __init__(self, height: int, width: int, period: float):
        self.height, self.width, self.period = height, width, period
        self.nb_rows = math.ceil(height / period) + 2
        self.nb_columns = math.ceil(width / period) + 2

    def draw(
        self, nb_maps: int, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
    ) -> torch.Tensor:
        """Draw what `nb_maps` maps are made of: the place of each lattice, and the angle of each gradient.

        Returns float32 (nb_maps, height + width, 2*nb_columns): the two matrices whose product a map is, one above the
        other; about 30 times smaller than the maps at the sizes used here.
        """
        nb_draws = 2 + self.nb_rows * self.nb_columns
        draws = torch.rand(nb_maps, nb_draws, generator=generator, device=device)
        rows, rows_slope = self._weights(draws[:, 0], self.height, self.nb_rows)
        columns, columns_slope = self._weights(draws[:, 1], self.width, self.nb_columns)
        angles = (2 * math.pi) * draws[:, 2:].view(-1, self.nb_rows, self.nb_columns)
        scale = FULL_SCALE * math.sqrt(2)
        left = torch.cat([rows_slope @ (scale * angles.sin()), rows @ (scale * angles.cos())], dim=2)
        return torch.cat([left, torch.cat([columns, columns_slope], dim=2)], dim=1)

    def maps(self, draws: torch.Tensor) -> torch.Tensor:
        """Make one map of each row of `draws`: float32 (nb_maps, height, width) within +-127.

        The mean over the random lattices is 0 everywhere; 127 is the bound, met in the middle of a cell whose four
        gradients all point to it.
        """
        return draws[:, : self.height] @ draws[:, self.height :].mT

    def _weights(self, place, size, nb_points):
        """Return F and D (see above), both (nb_maps, size, nb_points)."""
        positions = torch.arange(size, device=place.device) / self.period + place[:, None]
        distance = positions[:, :, None] - torch.arange(nb_points, device=place.device)
        t = distance.abs().clamp(max=1)
        weight = 1 - t * t * t * (t * (6 * t - 15) + 10)
        return weight, weight * distance
