"""The one place that decides where tensors live."""

import ctypes
import os

import psutil
import torch

from equihash.errors import UserError


def keep_freed_memory():
    """Make the C library keep the memory that is freed, for the next tensor.

    By default glibc gives every large block back to the system, which then fills each page with zeros anew: most
    of the time of a convolution of small mosaics. Elsewhere than under glibc nothing happens.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(-4, 0)  # M_MMAP_MAX: no blocks of their own
    mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: the end of the heap is not given back
    mallopt(-2, 2**28)  # M_TOP_PAD: the heap grows by that much


def select_device(name="auto"):
    """Return the `torch.device` called `name`: auto (CUDA where there is one), cpu, cuda or cuda:i.

    Under torchrun each process of a machine gets a CUDA device of its own.
    """
    keep_freed_memory()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name += f":{os.environ['LOCAL_RANK']}"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UserError(f"unknown device {name!r}: use auto, cpu, cuda or cuda:INDEX")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(f"device {name!r} was asked for, but PyTorch sees no CUDA device: use cpu")
        if (device.index or 0) >= torch.cuda.device_count():
            raise UserError(f"device {name!r} does not exist: there are {torch.cuda.device_count()} CUDA devices")
        torch.cuda.set_device(device)
    return device


def select_precision(name, device):
    """Return the `torch.dtype` called `name`; auto is bfloat16 where the hardware computes in it natively.

    float32 is no TF32 on a GPU, unless PyTorch's variable TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1 asks for it.
    """
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32  # PyTorch's own default is True
    if name == "auto":
        return native_precisions(device)[-1]
    return getattr(torch, name)


def native_precisions(device):
    """List the `torch.dtype`s that a network can compute in natively on `device`, float32 first."""
    return [torch.float32, torch.bfloat16] if _has_bfloat16(device) else [torch.float32]


def _has_bfloat16(device):
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return "avx512_bf16" in _cpu_flags() or "amx_bf16" in _cpu_flags()


def _cpu_flags():
    """Words that /proc/cpuinfo says of the first processor (empty where there is none)."""
    try:
        with open("/proc/cpuinfo") as file:
            return next((line.split() for line in file if line.startswith("flags")), [])
    except OSError:
        return []


def autocast(device, precision):
    """Context in which a network's forward pass computes in `precision`, a `torch.dtype`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16)


def available_memory(device):
    """Bytes that can still be allocated on `device`."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def set_deterministic(deterministic):
    """Allow only kernels that give the same result each time, or all."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # only warn: a kernel without a deterministic form should not end a long run
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # costs time and changes no result
    torch.backends.cudnn.benchmark = not deterministic
