"""The one place that decides where tensors live."""

import os

import psutil
import torch

from equihash.errors import UserError


def select_device(name: str = "auto") -> torch.device:
    """Return the `torch.device` called `name`: auto (CUDA where there is one), cpu, cuda or cuda:i.

    Under torchrun each process of a machine gets a CUDA device of its own. A CUDA device becomes PyTorch's current one.
    """
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
        torch.cuda.set_device(device.index or 0)
    return device


def select_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the `torch.dtype` called `name`; auto is bfloat16 where the hardware computes in it natively."""
    if name == "auto":
        return native_precisions(device)[-1]
    return getattr(torch, name)


def native_precisions(device: torch.device) -> list[torch.dtype]:
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


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """Context in which a network's forward pass computes in `precision`, a `torch.dtype`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16)


def available_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on `device`, of a CPU's memory by each process that torchrun started here."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
