"""Gradient of the Shannon loss: minus the sum of the entropies of tuples of bits.

For logits z of N instances, an instance's bits are independent, p = sigma(z) the probability that one is 1 and
q = sigma(-z) that it is 0. The joint distribution of a tuple's bits, over a random instance, is the average of the
products of its signed probabilities, J(x) = 1/N sum_n prod_i sigma(+-z_ni). The gradient of -H = sum_x J(x) log J(x)
with respect to a logit is

    p q / N * sum over the other bits' values x of prod sigma(+-z) * (log J(x, 1) - log J(x, 0)),

from M. Duchesneau, "Learning Deep Equihash Functions", thesis, Universite de Montreal. Nothing is had by subtracting
probabilities, so saturated logits keep their relative precision.

Both steps are matrix products, once a tuple is split into a head and a tail of bits: joints = heads @ tails^T sums
over instances, and gradient = log-ratios @ heads (or tails) sums over the values of the other bits. The products go
through the instances in chunks, which bounds the memory; a second pass computes the heads again rather than store
them.
"""

from functools import lru_cache
from itertools import chain
from math import comb

import numpy as np
import torch

from equihash.losses.tuples import all_tuples

# A block has about as many rows (signed products of heads or of tails), which keeps its chunks in the CPU's cache.
BLOCK_ROWS = 1 << 12
# Numbers in the largest buffer: 64 MiB in float32.
BUFFER_SIZE = 1 << 24


def shannon_gradient(logits, tuples, gradient_type="normal", prior=1.0, chunk_size=512):
    """Gradient of minus the sum of the entropies of tuples of bits, in nats, with respect to the logits.

    Parameters
    ----------
    logits : float tensor (N, k)
        sigma(logit) is the probability that the bit is 1.
    tuples : integer array or tensor (T, s), s >= 2
        Distinct bits of each tuple.
    gradient_type : "normal" or "pseudo-smooth"
        Where the log-ratios come from: the average probabilities, or the counts of the hard bits (logit > 0).
    prior : float
        "pseudo-smooth" only: added to each joint count.
    chunk_size : int
        Instances handled at a time, at most.

    Returns
    -------
    float tensor (N, k), with the logits' device and dtype
        Computed in float64 for float64 logits, otherwise in float32. There is no host synchronization, save where
        `tuples` is on a GPU.

    Notes
    -----
    What is derived from the tuples is kept between calls; `ShannonGradient` holds it explicitly.
    """
    if isinstance(tuples, torch.Tensor):
        tuples = tuples.cpu().numpy()
    tuples = np.ascontiguousarray(tuples, dtype=np.int64)
    plan = _plan(tuples.tobytes(), tuples.shape, logits.shape[1], logits.device)
    return plan(logits, gradient_type, prior, chunk_size)


@lru_cache(maxsize=8)
def _plan(tuples, shape, nb_bits, device):
    return ShannonGradient(np.frombuffer(tuples, dtype=np.int64).reshape(shape), nb_bits, device)


class ShannonGradient:
    """`shannon_gradient` of fixed tuples.

    Parameters
    ----------
    tuples : integer array (T, s), s >= 2
    nb_bits : int
        k; the tuples are subsets of range(k).
    device : torch.device or str
        Where the logits will be.
    """

    def __init__(self, tuples, nb_bits, device="cpu"):
        tuples = np.sort(np.asarray(tuples, dtype=np.int64), axis=1)
        if tuples.ndim != 2 or tuples.shape[1] < 2:
            raise ValueError(f"tuples: an array (T, s) with s >= 2 is needed, not {tuples.shape}")
        if tuples.size and (tuples[:, 0].min() < 0 or tuples[:, -1].max() >= nb_bits):
            raise ValueError(f"tuples: bits are numbered from 0 to {nb_bits - 1}")
        if (tuples[:, 1:] == tuples[:, :-1]).any():
            raise ValueError("tuples: a bit appears twice in a tuple")
        size = tuples.shape[1]
        complete = len(tuples) == comb(nb_bits, size) and np.array_equal(
            tuples[np.lexsort(tuples.T[::-1])], all_tuples(nb_bits, size)
        )
        self.method = AllTuples(nb_bits, size, device) if complete else SomeTuples(tuples, device)

    @torch.no_grad()
    def __call__(self, logits, gradient_type="normal", prior=1.0, chunk_size=512):
        """See `shannon_gradient`."""
        z = logits.T.to(torch.promote_types(logits.dtype, torch.float32)).contiguous()
        soft = torch.stack([(-z).sigmoid(), z.sigmoid()], dim=1)
        if gradient_type == "normal":
            counted, prior = soft, 0.0
        elif gradient_type == "pseudo-smooth":
            counted = torch.stack([z <= 0, z > 0], dim=1).to(z.dtype)
        else:
            raise ValueError(f'gradient_type is "normal" or "pseudo-smooth", not {gradient_type!r}')
        with torch.autocast(logits.device.type, enabled=False):
            gradient = self.method(soft, counted, prior, chunk_size)
        return (gradient * soft.prod(dim=1) / len(logits)).T.to(logits.dtype)


class AllTuples:
    """All tuples of a size: the heads are all tuples of one bit less, the tails are all bits.

    Every tuple appears with each of its bits as the tail, so that the gradient with respect to the tail is all that
    is needed.
    """

    def __init__(self, nb_bits, size, device):
        self.heads = torch.as_tensor(all_tuples(nb_bits, size - 1), device=device)

    def __call__(self, soft, counted, prior, chunk_size):
        """Return the gradient's sum over tuples and values, (k, N).

        Parameters
        ----------
        soft, counted : float tensors (k, 2, N)
            Probabilities of 0 and of 1; what to average them from.
        """
        nb_bits, _, nb_instances = soft.shape
        gradient = torch.zeros_like(soft[:, 0])
        for heads in self.heads.split(BLOCK_ROWS >> self.heads.shape[1]):
            joints = soft.new_zeros(len(heads) << heads.shape[1], 2 * nb_bits)
            for chunk in counted.split(chunk_size, dim=2):
                chunk = chunk.contiguous()
                joints.addmm_(_products(chunk, heads).flatten(0, 1), chunk.flatten(0, 1).T)
            logs = _log(joints + prior).view(len(heads), -1, nb_bits, 2)
            own = torch.zeros_like(logs[:, 0, :, 0], dtype=torch.bool).scatter_(1, heads, True)
            ratios = (logs[..., 1] - logs[..., 0]).masked_fill_(own[:, None], 0.0).flatten(0, 1).T.contiguous()
            for start in range(0, nb_instances, chunk_size):
                chunk = slice(start, start + chunk_size)
                gradient[:, chunk].addmm_(ratios, _products(soft[..., chunk].contiguous(), heads).flatten(0, 1))
        return gradient


class SomeTuples:
    """Any set of tuples: the head is the first half of a tuple's bits, the tail is the other half.

    The heads' tails are gathered, and multiplied in batches of small matrices.
    """

    def __init__(self, tuples, device):
        self.nb_tuples, self.size = tuples.shape
        half = self.size // 2
        left, right = tuples[:, :half], tuples[:, half:]
        self.sides = [Side(left, right, device), Side(right, left, device)]

    def __call__(self, soft, counted, prior, chunk_size):
        """See `AllTuples`."""
        forward = self.sides[0]
        rows = max(side.buffer_rows for side in self.sides)
        chunk_size = max(1, min(chunk_size, BUFFER_SIZE // rows))
        sums = [0.0] * len(forward.blocks)
        for chunk in counted.split(chunk_size, dim=2):
            chunk = chunk.contiguous()
            for b, (heads, tails, _) in enumerate(forward.gathered(chunk)):
                sums[b] += torch.bmm(_products(chunk, heads), tails.transpose(1, 2))
        # One more than there are tuples: the last is what fills the blocks.
        joints = soft.new_zeros(self.nb_tuples + 1, 1 << forward.heads.shape[1], 1 << forward.tails.shape[1])
        for (_, _, members), total in zip(forward.blocks, sums):
            joints[members] = total.unflatten(2, (members.shape[1], -1)).transpose(1, 2)
        logs = _log(joints + prior)
        logs[-1] = 0.0

        gradient = torch.zeros_like(soft[:, 0])
        for side, side_logs in zip(self.sides, (logs, logs.transpose(1, 2))):
            side.add_gradient(gradient, side_logs, soft, chunk_size)
        return gradient


class Side:
    def __init__(self, heads, tails, device):
        self.heads, head_of = np.unique(heads, axis=0, return_inverse=True)
        self.tails, tail_of = np.unique(tails, axis=0, return_inverse=True)
        nb_tuples, nb_heads = len(heads), len(self.heads)
        counts = np.bincount(head_of, minlength=nb_heads)
        order = np.argsort(-counts, kind="stable")
        rank = np.argsort(order)[head_of]
        self.heads, counts = self.heads[order], counts[order]
        members_order = np.argsort(rank, kind="stable")
        rank = rank[members_order]
        position = np.arange(nb_tuples) - (np.cumsum(counts) - counts)[rank]
        put = lambda array: torch.as_tensor(array, device=device)
        tail_of = np.append(tail_of, 0)
        self.blocks = []
        start = 0
        while start < nb_heads:
            width = counts[start]
            stop = min(nb_heads, start + max(1, (BLOCK_ROWS >> self.tails.shape[1]) // width))
            members = np.full((stop - start, width), nb_tuples)
            inside = slice(*np.searchsorted(rank, [start, stop]))
            members[rank[inside] - start, position[inside]] = members_order[inside]
            self.blocks.append((put(self.heads[start:stop]), put(tail_of[members]), put(members)))
            start = stop
        self.heads = put(self.heads)
        self.tails = put(self.tails)
        self.buffer_rows = max([len(self.tails)] + [members.numel() for _, _, members in self.blocks]) << self.tails.shape[1]

    def gathered(self, chunk):
        products = _products(chunk, self.tails).flatten(1)
        buffer = products.new_empty(max(tails.numel() for _, tails, _ in self.blocks), products.shape[1])
        for heads, tails, members in self.blocks:
            gathered = torch.index_select(products, 0, tails.flatten(), out=buffer[: tails.numel()])
            yield heads, gathered.view(len(heads), -1, chunk.shape[2]), members

    def add_gradient(self, gradient, logs, soft, chunk_size):
        size = self.heads.shape[1]
        ratios = []
        for bit in range(size):
            split = logs.unflatten(1, (1 << bit, 2, -1))
            ratios.append((split[:, :, 1] - split[:, :, 0]).flatten(1, 2))
        ratios = torch.cat(ratios, dim=1)
        blocks = [ratios[members].permute(0, 2, 1, 3).flatten(2).contiguous() for _, _, members in self.blocks]
        for start in range(0, soft.shape[2], chunk_size):
            chunk = soft[:, :, start : start + chunk_size].contiguous()
            for block, (heads, tails, _) in zip(blocks, self.gathered(chunk)):
                sums = torch.bmm(block, tails).unflatten(1, (size, -1))
                for bit in range(size):
                    others = torch.cat([heads[:, :bit], heads[:, bit + 1 :]], dim=1)
                    gradient[:, start : start + chunk_size].index_add_(
                        0, heads[:, bit], (sums[:, bit] * _products(chunk, others)).sum(dim=1)
                    )


def _products(signed, tuples):
    """Products of the signed probabilities of each tuple, for all values of its bits.

    Parameters
    ----------
    signed : tensor (k, 2, n)
    tuples : int64 tensor (T, s)

    Returns
    -------
    tensor (T, 2^s, n), the tuple's first bit the most significant of the value
    """
    if not tuples.shape[1]:
        return signed.new_ones(len(tuples), 1, signed.shape[2])
    products = signed.index_select(0, tuples[:, 0])
    for bits in tuples.T[1:]:
        products = (products[:, :, None] * signed.index_select(0, bits)[:, None]).flatten(1, 2)
    return products


def _log(joints):
    """Logarithm of sums that may have underflowed to 0: those weigh nothing, but must not make 0 * inf."""
    return joints.clamp_(min=torch.finfo(joints.dtype).tiny).log_()
