"""Gradient of the Shannon loss: minus the sum of the entropies of tuples of bits.

For logits z of N instances, an instance's bits are independent, p = sigma(z) the probability that one is 1 and
q = sigma(-z) that it is 0. The joint distribution of a tuple's bits, over a random instance, is the average of the
products of its signed probabilities, J(x) = 1/N sum_n prod_i sigma(+-z_ni). The gradient of -H = sum_x J(x) log J(x)
with respect to a logit is

    p q / N * sum over the other bits' values x of prod sigma(+-z) * (log J(x, 1) - log J(x, 0)),

from M. Duchesneau, "Learning Deep Equihash Functions", thesis, Universite de Montreal. No probability comes from a
subtraction, so saturated logits keep their relative precision.

Both steps are matrix products, once a tuple is split into a head and a tail of bits: joints = heads @ tails^T sums
over instances, and gradient = log-ratios @ heads (or tails) sums over the values of the other bits. The products go
through the instances in chunks, which bounds the memory; a second pass recomputes the heads instead of storing them.
"""

from functools import lru_cache
from math import comb, log

import numpy as np
import torch

from equihash.losses.tuples import all_tuples

# Heads are taken a block at a time: about as many rows of signed products, which stay in a CPU's cache.
BLOCK_ROWS = 1 << 12
# Numbers in the buffers of SomeTuples, 8 MiB in float32: bounds the chunks.
BUFFER_SIZE = 1 << 21


def shannon_gradient(
    logits: torch.Tensor,
    tuples: np.ndarray | torch.Tensor,
    gradient_type: str = "normal",
    prior: float = 1.0,
    chunk_size: int = 512,
) -> torch.Tensor:
    """Gradient of minus the sum of the entropies of tuples of bits, in nats, with respect to the logits.

    Parameters
    ----------
    logits : float (N, k)
        sigma(logit) is the probability that the bit is 1.
    tuples : integers (T, s), s >= 2
        Distinct bits of each tuple.
    gradient_type : "normal" or "pseudo-smooth"
        The source of the log-ratios: the average probabilities, or the counts of the hard bits (logit > 0).
    prior
        "pseudo-smooth" only: added to each joint count.
    chunk_size
        Instances handled at a time, at most.

    Returns
    -------
    float tensor (N, k), with the logits' device and dtype
        Computed in float64 for float64 logits, otherwise in float32. The host does not wait for a GPU, unless
        `tuples` is on it.

    Notes
    -----
    What is derived from the tuples is cached; `ShannonGradient` keeps it without a cache.
    """
    if isinstance(tuples, torch.Tensor):
        tuples = tuples.cpu().numpy()
    tuples = np.ascontiguousarray(tuples, dtype=np.int64)
    plan = _plan(tuples.tobytes(), tuples.shape, logits.shape[1], logits.device)
    return plan(logits, gradient_type, prior, chunk_size)[0]


@lru_cache(maxsize=8)
def _plan(tuples, shape, nb_bits, device):
    return ShannonGradient(np.frombuffer(tuples, dtype=np.int64).reshape(shape), nb_bits, device)


class ShannonGradient:
    """`shannon_gradient` of fixed tuples.

    Parameters
    ----------
    tuples : integers (T, s), s >= 2
    nb_bits
        k; the tuples are subsets of range(k).
    device
        Where the logits will be.
    """

    def __init__(self, tuples: np.ndarray, nb_bits: int, device: torch.device | str = "cpu"):
        tuples = np.sort(np.asarray(tuples, dtype=np.int64), axis=1)
        if tuples.ndim != 2 or not len(tuples) or tuples.shape[1] < 2:
            raise ValueError(f"tuples: an array (T, s) with T >= 1 and s >= 2 is needed, not {tuples.shape}")
        if tuples[:, 0].min() < 0 or tuples[:, -1].max() >= nb_bits:
            raise ValueError(f"tuples: bits are numbered from 0 to {nb_bits - 1}")
        if (tuples[:, 1:] == tuples[:, :-1]).any():
            raise ValueError("tuples: a bit appears twice in a tuple")
        size = tuples.shape[1]
        complete = len(tuples) == comb(nb_bits, size) and np.array_equal(
            tuples[np.lexsort(tuples.T[::-1])], all_tuples(nb_bits, size)
        )
        self.method = AllTuples(nb_bits, size, device) if complete else SomeTuples(tuples, device)

    @torch.no_grad()
    def __call__(
        self, logits: torch.Tensor, gradient_type: str = "normal", prior: float = 1.0, chunk_size: int = 512
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the gradient and the sum of the entropies; see `shannon_gradient` for the parameters.

        Returns
        -------
        gradient : float tensor (N, k)
        entropy : float64 tensor ()
            Sum of the tuples' entropies, in nats; if "pseudo-smooth", of the hard bits, smoothed by the prior.
        """
        z = logits.T.to(torch.promote_types(logits.dtype, torch.float32)).contiguous()
        soft = torch.stack([(-z).sigmoid(), z.sigmoid()], dim=1)
        if gradient_type == "normal":
            counted, prior = soft, 0.0
        elif gradient_type == "pseudo-smooth":
            counted = torch.stack([z <= 0, z > 0], dim=1).to(z.dtype)
        else:
            raise ValueError(f'gradient_type is "normal" or "pseudo-smooth", not {gradient_type!r}')
        with torch.autocast(logits.device.type, enabled=False):
            gradient, entropy = self.method(soft, counted, prior, chunk_size)
        return (gradient * soft.prod(dim=1) / len(logits)).T.to(logits.dtype), entropy


class AllTuples:
    """All tuples of a size: the heads are all tuples of one bit less, the tails are all bits.

    Every tuple appears with each of its bits as the tail, so that the gradient with respect to the tail is enough.
    """

    def __init__(self, nb_bits: int, size: int, device: torch.device | str):
        self.heads = torch.as_tensor(all_tuples(nb_bits, size - 1), device=device)

    def __call__(
        self, soft: torch.Tensor, counted: torch.Tensor, prior: float, chunk_size: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the gradient's sum over tuples and values, (k, N), and the sum of the entropies.

        The joints, which start from `prior`, are sums of `counted` (k, 2, N): the probabilities `soft` of 0 and of 1,
        or the hard bits.
        """
        nb_bits, _, nb_instances = soft.shape
        gradient = torch.zeros_like(soft[:, 0])
        surprise = soft.new_zeros((), dtype=torch.float64)
        for heads in self.heads.split(max(1, BLOCK_ROWS >> self.heads.shape[1])):
            joints = soft.new_zeros(len(heads) << heads.shape[1], 2 * nb_bits)
            for chunk in counted.split(chunk_size, dim=2):
                chunk = chunk.contiguous()
                joints.addmm_(_products(chunk, heads).flatten(0, 1), chunk.flatten(0, 1).T)
            joints, logs = _with_logs((joints + prior).view(len(heads), -1, nb_bits, 2))
            own = torch.zeros_like(logs[:, 0, :, 0], dtype=torch.bool).scatter_(1, heads, True)
            surprise += (joints * logs).sum((1, 3), dtype=torch.float64).masked_fill_(own, 0.0).sum()
            ratios = (logs[..., 1] - logs[..., 0]).masked_fill_(own[:, None], 0.0).flatten(0, 1).T.contiguous()
            for start in range(0, nb_instances, chunk_size):
                chunk = slice(start, start + chunk_size)
                gradient[:, chunk].addmm_(ratios, _products(soft[..., chunk].contiguous(), heads).flatten(0, 1))
        size = self.heads.shape[1] + 1
        return gradient, _entropy(surprise / size, comb(nb_bits, size), nb_instances + prior * 2**size)


class SomeTuples:
    """Any set of tuples; the work is proportional to their number.

    The head is the first half of a tuple's bits, the tail is the other half. Each head's tails are gathered, and
    multiplied by it in batches of small matrices. For the gradient, each half is the head once.
    """

    def __init__(self, tuples: np.ndarray, device: torch.device | str):
        half = tuples.shape[1] // 2
        left, right = tuples[:, :half], tuples[:, half:]
        self.sides = [Side(left, right, device), Side(right, left, device)]
        self.joints_shape = (len(tuples) + 1, 1 << left.shape[1], 1 << right.shape[1])  # the last is Side's filler

    def __call__(
        self, soft: torch.Tensor, counted: torch.Tensor, prior: float, chunk_size: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `AllTuples`."""
        chunk_size = max(1, min(chunk_size, BUFFER_SIZE // max(side.buffer_rows for side in self.sides)))
        joints = soft.new_zeros(self.joints_shape)
        self.sides[0].add_joints(joints, counted, chunk_size)
        joints, logs = _with_logs(joints + prior)
        surprise = (joints[:-1] * logs[:-1]).sum(dtype=torch.float64)
        logs[-1] = 0.0
        gradient = torch.zeros_like(soft[:, 0])
        self.sides[0].add_gradient(gradient, logs, soft, chunk_size)
        self.sides[1].add_gradient(gradient, logs.transpose(1, 2), soft, chunk_size)
        return gradient, _entropy(surprise, len(joints) - 1, soft.shape[2] + prior * joints[0].numel())


class Side:
    """Tuples, each a row of `heads` (T, h) and of `tails` (T, t), grouped by their heads.

    Heads of about as many tails make a block, a rectangle of (head, tail) places; the places left over are filled
    with tuple number T, whose log-ratios are 0.

    Attributes
    ----------
    blocks : list of (heads (H, h), tails (H, m), members (H, m))
        Bits of the heads; numbers of their tails, in `self.tails`; numbers of the tuples that these make.
    """

    def __init__(self, heads: np.ndarray, tails: np.ndarray, device: torch.device | str):
        heads, head_of = np.unique(heads, axis=0, return_inverse=True)
        tails, tail_of = np.unique(tails, axis=0, return_inverse=True)
        tail_of = np.append(tail_of, 0)
        by_head = np.argsort(head_of, kind="stable")
        counts = np.bincount(head_of)
        starts = np.cumsum(counts) - counts
        order = np.argsort(-counts, kind="stable")
        self.size, self.tail_values = heads.shape[1], 1 << tails.shape[1]
        self.tails = torch.as_tensor(tails, device=device)
        self.blocks = []
        while len(order):
            widest = counts[order[0]]
            chosen, order = np.split(order, [max(1, BLOCK_ROWS // (widest * self.tail_values))])
            places = np.arange(widest)
            positions = np.minimum(starts[chosen, None] + places, len(by_head) - 1)
            members = np.where(places < counts[chosen, None], by_head[positions], len(by_head))
            block = heads[chosen], tail_of[members], members
            self.blocks.append([torch.as_tensor(array, device=device) for array in block])
        self.block_tails = max(members.numel() for _, _, members in self.blocks)
        self.buffer_rows = self.tail_values * max(len(tails), self.block_tails)

    def add_joints(self, joints: torch.Tensor, counted: torch.Tensor, chunk_size: int) -> None:
        """Set the sums over instances of the products of the bits: joints (T + 1, 2^h, 2^t)."""
        sums = [0.0] * len(self.blocks)
        for chunk in counted.split(chunk_size, dim=2):
            chunk = chunk.contiguous()
            for i, (heads, tails) in enumerate(self._gather(chunk)):
                sums[i] += torch.bmm(_products(chunk, heads), tails.transpose(1, 2))
        for (_, _, members), total in zip(self.blocks, sums):
            joints[members] = total.unflatten(2, (-1, self.tail_values)).transpose(1, 2)

    def add_gradient(self, gradient: torch.Tensor, logs: torch.Tensor, soft: torch.Tensor, chunk_size: int) -> None:
        """Add to `gradient` (k, N) the part of the heads' bits, from the logarithms (T + 1, 2^h, 2^t)."""
        ratios = []
        for i in range(self.size):
            of_bit = logs.unflatten(1, (1 << i, 2, -1))
            ratios.append((of_bit[:, :, 1] - of_bit[:, :, 0]).flatten(1, 2))
        ratios = torch.cat(ratios, dim=1)  # (T + 1, h 2^(h-1), 2^t)
        ratios = [ratios[members].transpose(1, 2).flatten(2) for _, _, members in self.blocks]
        for start in range(0, soft.shape[2], chunk_size):
            chunk = soft[:, :, start : start + chunk_size].contiguous()
            for block_ratios, (heads, tails) in zip(ratios, self._gather(chunk)):
                sums = torch.bmm(block_ratios, tails).unflatten(1, (self.size, -1))
                for i in range(self.size):
                    others = torch.cat([heads[:, :i], heads[:, i + 1 :]], dim=1)
                    slopes = (sums[:, i] * _products(chunk, others)).sum(dim=1)
                    gradient[:, start : start + chunk_size].index_add_(0, heads[:, i], slopes)

    def _gather(self, chunk):
        """Yield each block's heads (H, h), and the products of their tails (H, m 2^t, n), in one reused buffer."""
        products = _products(chunk, self.tails).flatten(1)
        buffer = products.new_empty(self.block_tails, products.shape[1])
        for heads, tails, _ in self.blocks:
            gathered = torch.index_select(products, 0, tails.flatten(), out=buffer[: tails.numel()])
            yield heads, gathered.view(len(heads), -1, chunk.shape[2])


def _products(signed, tuples):
    """Products of the signed probabilities (k, 2, n) of each of the tuples (T, s), for all values of its bits.

    Returns a tensor (T, 2^s, n), the tuple's first bit the most significant of the value.
    """
    if not tuples.shape[1]:
        return signed.new_ones(len(tuples), 1, signed.shape[2])
    products = signed.index_select(0, tuples[:, 0])
    for bits in tuples.T[1:]:
        products = (products[:, :, None] * signed.index_select(0, bits)[:, None]).flatten(1, 2)
    return products


def _with_logs(joints):
    """Joint sums and their logarithms. Those that have underflowed to 0 weigh nothing, but must not make 0 * inf."""
    joints.clamp_(min=torch.finfo(joints.dtype).tiny)
    return joints, joints.log()


def _entropy(surprise, nb_tuples, total):
    """Sum of the entropies of tuples, from the sum of c log c over their joint sums c, which add up to `total` each."""
    return nb_tuples * log(total) - surprise / total
