"""Several processes that train or encode together, one a GPU: torchrun --nproc_per_node N train.py ...

A script that is run by itself is the only process; then nothing here does anything.
"""

import atexit
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from equihash import files, progress
from equihash.errors import Locked


def start() -> None:
    """Join the processes that torchrun started."""
    if nb_processes() == 1:
        return
    # the others wait while the first evaluates, or a slower one encodes
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=timedelta(days=1))
    atexit.register(dist.destroy_process_group)


def mute_all_but_first() -> None:
    """Send the stdout of all processes but the first to nowhere."""
    if not is_first():
        sys.stdout = open(os.devnull, "w", errors="replace")  # noqa: SIM115


def nb_processes() -> int:
    return int(os.environ["WORLD_SIZE"]) if _are_several() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ["RANK"]) if _are_several() else 0


def _are_several():
    """Whether all is set that the processes need to meet; clusters and shells set some of it for other purposes."""
    return {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()


def is_first() -> bool:
    """Whether this is the process that writes and prints."""
    return rank() == 0


def gather(tensor: torch.Tensor) -> torch.Tensor:
    """Concatenate the tensors (n, ...) of all processes, in order of rank."""
    if nb_processes() == 1:
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(nb_processes())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def add_up(tensors: list[torch.Tensor]) -> None:
    """Replace each tensor by its sum over all processes."""
    if nb_processes() == 1:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors])):
        tensor.copy_(total.view_as(tensor))


def any_of(flag: bool) -> bool:
    """Whether `flag` is true in some process; does not wait for the GPU."""
    if nb_processes() == 1:
        return flag
    flags = torch.tensor([float(flag)])
    dist.all_reduce(flags)
    return flags.item() > 0


def progress_bar(**options) -> progress.tqdm:
    """`equihash.progress.progress_bar` that only the first process shows."""
    return progress.progress_bar(**options, leave=False) if is_first() else progress.progress_bar(disable=True)


def wait() -> None:
    """Wait until all processes have come this far."""
    any_of(False)


@contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """`equihash.files.locked` by the first process; where it is locked, all of them raise `Locked`."""
    with ExitStack() as locks:
        error = None
        if is_first():
            try:
                locks.enter_context(files.locked(path))
            except Locked as there:
                error = there
        if any_of(error is not None):
            raise error or Locked(f"{path} is being written by another process")
        yield
