"""state.pth: the weights and all that a resumed run needs."""

import copy
import io
import os
import pickle
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from equihash.config import complete, differences
from equihash.errors import Diverged, Remedy, UserError, is_out_of_memory
from equihash.files import atomic, digest_of, exists
from equihash.from_config import build_network

# what may differ between a saved and a resumed run: how long it is, what is looked at on the way, what memory it takes
FREE_KEYS = ("nb_steps", "eval_freq", "eval_size", "loader_kwargs:bank_location", "trainer_kwargs:forward_passes")
KEYS = ("config", "net", "trainer", "train_results", "valid_results")
START_AGAIN = "train again without it (option no_load of train.py)"


def save_state(path: Path, config: dict, network: nn.Module, trainer, results: dict, provenance: dict) -> None:
    """Write state.pth atomically.

    Parameters
    ----------
    path : Path
    config : dict
    network : nn.Module
    trainer : Trainer
    results : {"train": dict, "valid": dict}
        The in-training evaluations by step.
    provenance : dict
        What made the state; the digest of the weights is added.
    """
    weights = network.state_dict()
    state = {
        "provenance": {**provenance, "step": trainer.step, "weights": weights_digest(weights)},
        "config": config,
        "net": weights,
        "trainer": trainer.state_dict(),
        "train_results": results["train"],
        "valid_results": results["valid"],
    }
    content = io.BytesIO()  # a full disk is an error of Python's then, not of the archive's writer
    torch.save(state, content)
    with atomic(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def load_state(path: Path, remedy: Remedy | None = None) -> dict:
    """Read state.pth, ours or one in the published format, without running any code of it.

    Parameters
    ----------
    path : Path
    remedy : Remedy or None
        What makes the file, for the error where there is none.

    Returns
    -------
    dict
        config (completed), net, trainer, train_results, valid_results, provenance; numpy values made plain.

    Raises
    ------
    UserError
        The file is missing, damaged, or not a state.
    """
    if not exists(path):
        raise UserError(f"{path} does not exist", remedy)
    try:
        with zipfile.ZipFile(path) as archive:  # PyTorch looks at neither checksums nor sizes
            too_large = sum(entry.file_size for entry in archive.infolist()) > os.path.getsize(path)
            if too_large or archive.testzip() is not None:
                raise zipfile.BadZipFile("wrong checksum or size")
        with torch.serialization.safe_globals(_published_types()):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(f"{path} is refused: it is damaged, or holds more than tensors, numbers and text") from None
    except Exception as error:  # what a damaged file can make PyTorch raise is not known
        if is_out_of_memory(error) or isinstance(error, OSError) and error.errno:
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} is not a state, or it is damaged: {reason}") from None
    if not isinstance(state, dict) or not all(isinstance(state.get(key), dict) for key in KEYS):
        raise UserError(f"{path} is not a state: it must hold {', '.join(KEYS)}")
    state = {key: _plain(state.get(key, {})) for key in (*KEYS, "provenance")}
    try:
        state["config"] = complete(state["config"])
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return state


def load_network(state: dict, path: Path, device: torch.device) -> nn.Module:
    """Make the network of a state, on `device` and in evaluation mode; `path` is that of the state, for errors."""
    network = build_network(state["config"], device)
    load_weights(network, state["net"], path)
    return network.eval()


def load_weights(network: nn.Module, weights: dict, path: Path) -> None:
    """Put a state's weights into `network`, or say in one line why they do not fit.

    DataParallel and torch.compile put a word before each name: weights saved from them fit, too.
    """
    if not network.state_dict().keys() & weights.keys():
        weights = {re.sub(r"^(module\.|_orig_mod\.)+", "", name): tensor for name, tensor in weights.items()}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise UserError(f"{path} is of another network: {lines[min(1, len(lines) - 1)].strip()}") from None
    name = _not_finite(network)
    if name is not None:
        raise UserError(f"{path}: {name} holds values that are not finite: {START_AGAIN}")


def load_trainer(trainer, saved: dict, path: Path) -> None:
    """Put a state's trainer into `trainer`, or say in one line why it does not fit."""
    try:
        trainer.load_state_dict(saved)
        if saved.get("recipe", trainer.recipe) != trainer.recipe:
            _try_a_step(trainer)
    except (KeyError, ValueError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} does not fit this training: {reason}; {START_AGAIN}") from error


def _try_a_step(trainer):
    """Take a step of gradient 0 and undo it: an option such as Adam's amsgrad needs what older moments lack."""
    weights = [parameter.detach().clone() for parameter in trainer.parameters]
    state = copy.deepcopy(trainer.state_dict())
    for parameter in trainer.parameters:
        parameter.grad = torch.zeros_like(parameter)
    trainer.optimizer.step()
    trainer.load_state_dict(state)
    for parameter, weight in zip(trainer.parameters, weights):
        parameter.data.copy_(weight)
        parameter.grad = None


def check_weights(network: nn.Module, step: int) -> None:
    """Raise `Diverged` where the weights after `step` are not finite, and must not be saved."""
    name = _not_finite(network)
    if name is not None:
        raise Diverged(
            f"{name} is not finite at step {step}: training stopped, the last saved state is kept; "
            "lower optim_kwargs:lr or clip_value"
        )


def _not_finite(network):
    """Name of the first of the network's weights that hold NaN or infinity, or None."""
    return next((name for name, tensor in network.state_dict().items() if not tensor.isfinite().all()), None)


def work_differences(state: dict, current: dict, precision: torch.dtype, banks: dict | None = None) -> list[str]:
    """List "what: a, not b" for all that makes a state unfit to resume: configuration, precision, image banks.

    Parameters
    ----------
    state : dict
        See `load_state`.
    current : dict
        The configuration now.
    precision : torch.dtype
    banks : dict or None
        Digests by split; None: not compared.
    """
    lines = [line for line in differences(current, state["config"]) if line.split(" ")[0] not in FREE_KEYS]
    saved_precision = state["trainer"].get("precision", str(precision))
    if saved_precision != str(precision):
        lines.append(f"precision {str(precision)[6:]}, not {str(saved_precision)[6:]}")
    banks = banks or {}
    return lines + [f"image banks {line}" for line in differences(banks, state["provenance"].get("banks", banks))]


def weights_digest(weights: dict) -> str:
    """SHA-256 (first 16 hex digits) of a network's weights, names and shapes included."""
    contents = []
    for name, tensor in sorted(weights.items()):
        array = tensor.detach().cpu().contiguous()
        contents += [f"{name} {array.dtype} {tuple(array.shape)}", array.view(-1).view(torch.uint8).numpy().tobytes()]
    return digest_of(*contents)


def _plain(value):
    """Turn numpy scalars and arrays of a published state into Python numbers, lists and tensors."""
    if isinstance(value, str):
        return sys.intern(value)  # as the names in a program are: a state that is saved again has the same bytes
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    if isinstance(value, np.ndarray):  # of the random stream's words (uint32, rare in torch), or a histogram
        return torch.from_numpy(value.astype(np.int64)) if value.dtype == np.uint32 else value.tolist()
    return value.item() if isinstance(value, np.generic) else value


def _published_types():
    """The numpy types that published states hold; none of them runs code."""
    reconstruct, scalar = np._core.multiarray._reconstruct, np._core.multiarray.scalar
    dtypes = [type(np.dtype(name)) for name in ("bool", "int32", "int64", "uint32", "uint64", "float32", "float64")]
    aliases = [(reconstruct, "numpy.core.multiarray._reconstruct"), (scalar, "numpy.core.multiarray.scalar")]
    return [np.ndarray, np.dtype, reconstruct, scalar, *dtypes, *aliases]
