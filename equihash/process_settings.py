"""What a script sets for its whole process. Nothing else in the package does."""

import ctypes
import os

import torch


def keep_freed_memory() -> None:
    """Make the C library keep the memory that is freed, for the next tensor.

    By default glibc gives every large block back to the system, which then fills each page with zeros again: most of
    the time of a convolution of small mosaics. Elsewhere than under glibc nothing happens.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(-8, 1)  # M_ARENA_MAX: one heap for all threads; those of single threads hold 64 MB at most
    mallopt(-4, 0)  # M_MMAP_MAX: no blocks of their own
    mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: the end of the heap is not given back
    mallopt(-2, 2**28)  # M_TOP_PAD: the heap grows by that much


def forbid_tf32() -> None:
    """Make float32 mean float32 on a GPU, unless PyTorch's variable TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1 is set."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32  # PyTorch's own default is True


def set_deterministic(deterministic: bool) -> None:
    """Allow only kernels that give the same result each time, or all."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # only warn: a kernel without a deterministic form should not end a long run
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # costs time and changes no result
    torch.backends.cudnn.benchmark = not deterministic
