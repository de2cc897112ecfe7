"""The one place that decides where tensors live."""

import torch

from equihash.errors import UserError


def add_device_argument(parser):
    """Add `-d/--device` to an argparse parser."""
    parser.add_argument("-d", "--device", default="auto", help="auto, cpu, cuda or cuda:INDEX (default: auto)")


def select_device(name="auto"):
    """Return the `torch.device` called `name`: auto (CUDA where there is one), cpu, cuda or cuda:i."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UserError(f"unknown device {name!r}: use auto, cpu, cuda or cuda:INDEX")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(f"device {name!r} was asked for, but PyTorch sees no CUDA device; use -d cpu")
        if (device.index or 0) >= torch.cuda.device_count():
            raise UserError(f"device {name!r} does not exist: there are {torch.cuda.device_count()} CUDA devices")
    return device
