"""What all networks share: from instances to logits."""

import torch
from torch import nn

from equihash.errors import UserError


class Network(nn.Module):
    """Base of the networks: instances (..., *shape) to logits (..., k).

    A subclass sets `k` and `takes`, and implements `logits`. One for instances of any kind implements `forward`
    instead, for any leading dimensions, and needs no `takes`.

    Attributes
    ----------
    k : int
        Bits of the fingerprint, a multiple of 8.
    takes : (str, tuple)
        "float" (any floating-point type) or another dtype's name, and the shape of an instance; a side of any size
        is a word, as in ("uint8", (3, "height", "width")).
    """

    BOUNDS = {"k": (8, 2**16)}

    def logits(self, instances: torch.Tensor) -> torch.Tensor:
        """Compute the logits of instances (n, *shape), which are as `takes` says: floating-point tensor (n, k)."""
        raise NotImplementedError

    def forward(self, instances: torch.Tensor) -> torch.Tensor:
        """Compute the logits (..., k) of instances (..., *shape); a `UserError` if they are not as `takes` says."""
        kind, shape = self.takes
        dtype = str(instances.dtype).removeprefix("torch.")
        nb_leading = instances.ndim - len(shape)
        pairs = zip(shape, instances.shape[nb_leading:])
        fits = nb_leading >= 0 and all(side == size or isinstance(side, str) for side, size in pairs)
        if not fits or kind not in (dtype, "float" if instances.is_floating_point() else dtype):
            takes, found = (", ".join(map(str, sides)) for sides in (shape, instances.shape[1:]))
            raise UserError(
                f"{type(self).__name__} takes instances {kind} (..., {takes}), not {dtype} (..., {found}): change "
                "network_class or loader_kwargs"
            )
        logits = self.logits(instances.reshape(-1, *instances.shape[nb_leading:]))
        return logits.reshape(*instances.shape[:nb_leading], *logits.shape[1:])
