"""The choice of a device, on a machine without a GPU: PyTorch is told that there are two."""

import pytest
import torch

from equihash.devices import select_device
from equihash.errors import UserError


@pytest.fixture
def two_gpus(monkeypatch):
    """Pretend that there are two GPUs; return the list of those that become the current one."""
    current = []
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    return current


@pytest.mark.parametrize("name, index", [("auto", 0), ("cuda", 0), ("cuda:1", 1)])
def test_gpu(two_gpus, name, index):
    assert select_device(name).type == "cuda"
    assert two_gpus == [index]  # PyTorch 2.11 takes no device without an index


def test_each_process_of_torchrun_has_its_own_gpu(two_gpus, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert select_device("auto") == torch.device("cuda:1")
    assert two_gpus == [1]


def test_no_such_gpu(two_gpus):
    with pytest.raises(UserError, match="there are 2 CUDA devices"):
        select_device("cuda:2")


def test_without_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert select_device("auto") == torch.device("cpu")
    with pytest.raises(UserError, match="sees no CUDA device: use cpu"):
        select_device("cuda")
    with pytest.raises(UserError, match="unknown device 'gpu'"):
        select_device("gpu")
