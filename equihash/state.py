"""state.pth: the weights and all that a resumed run needs."""

import contextlib
import copy
import io
import json
import pickle
import re
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch

from equihash.config import complete, differences, find_class
from equihash.errors import Diverged, Remedy, UserError, is_out_of_memory
from equihash.files import atomic, digest_of, exists

# what may differ between a saved and a resumed run: how long it is and what is looked at on the way
RUN_LENGTH_KEYS = ("nb_steps", "eval_freq", "eval_size")
START_AGAIN = Remedy("train", load=False)


def build_network(config, device):
    """Make the network of a configuration, initialised from its seed, on `device`."""
    torch.manual_seed(config["seed"])
    if config["network_kwargs"].get("k", 8) % 8:
        raise UserError(f"network_kwargs:k must be a multiple of 8 (whole bytes), not {config['network_kwargs']['k']}")
    network = find_class(config, "network")(**config["network_kwargs"])
    return network.to(device, memory_format=torch.channels_last)  # two to three times faster on the CPU


def build_loader(config, which, device, seed=None):
    """Make the dataset of a configuration for one split."""
    return find_class(config, "loader")(**config["loader_kwargs"], which=which, device=device, seed=seed)


def check_instances(network, loader):
    """Try a network on two instances of the loader, and the loader on its generator.

    Raises
    ------
    UserError
        The loader does not take all of its noise from the generator that it is given, so that no item could be made
        again; or the network does not give `k` logits of an instance.
    """
    labels = np.zeros((2, *loader.mosaic_shape), np.int64)
    first, again = (loader.batch_from_labels(labels, torch_generator=loader.noise_generator(0)) for _ in range(2))
    if not torch.equal(first, again):
        raise UserError(
            f"{type(loader).__name__}.batch_from_labels does not take all of its noise from torch_generator: two "
            "batches made from one state of it differ"
        )
    training = network.training
    with torch.inference_mode():
        logits = network.eval()(first)
    network.train(training)
    if getattr(logits, "shape", None) != (2, network.k):
        raise UserError(
            f"{type(network).__name__} gives {tuple(logits.shape)} of instances {tuple(first.shape)}, not one row of "
            f"{network.k} logits each: change network_class or loader_kwargs"
        )


def check_weights(network, step):
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


def save_state(path, config, network, trainer, results, provenance):
    """Write state.pth atomically.

    Parameters
    ----------
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


def load_state(path, remedy=None):
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
    _check_archive(path)
    try:
        with torch.serialization.safe_globals(_published_types()):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(f"{path} is refused: it is damaged, or holds more than tensors, numbers and text") from None
    except Exception as error:  # what a damaged file can make PyTorch raise is not known
        if is_out_of_memory(error) or isinstance(error, OSError) and error.errno:
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} cannot be read as a state, it is damaged: {reason}") from None
    keys = ("config", "net", "trainer", "train_results", "valid_results")
    if not isinstance(state, dict) or not all(isinstance(state.get(key), dict) for key in keys):
        raise UserError(f"{path} is not a state: it must hold {', '.join(keys)}")
    try:
        plain = {key: _plain(state.get(key, {})) for key in (*keys, "provenance")}
        step, log = plain["trainer"].get("step"), plain["trainer"].get("training_log", {}).items()
        whole = type(step) is int and step >= 0
        whole = whole and all(isinstance(value, torch.Tensor) for value in plain["net"].values())
        whole = whole and all(isinstance(name, str) for name in plain["net"])
        whole = whole and all(map(_is_result, [*log, *plain["train_results"].items(), *plain["valid_results"].items()]))
        json.dumps([plain["provenance"], plain["config"], [*log], plain["train_results"], plain["valid_results"]])
    except (RecursionError, RuntimeError, ValueError, AttributeError, TypeError):
        whole = False
    if not whole:
        raise UserError(f"{path} is not a state: its step, weights, log or results are not what they should be")
    try:
        config = complete(plain["config"])
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return {**plain, "config": config}


def _check_archive(path):
    """Raise a `UserError` unless `path` is a zip archive whose every byte is as it was written, and no larger inside
    than outside: PyTorch itself checks neither."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
            damaged = packed or sum(entry.file_size for entry in entries) > Path(path).stat().st_size
            damaged = damaged or archive.testzip() is not None
    except (zipfile.BadZipFile, zlib.error, ValueError, LookupError, EOFError, NotImplementedError, RuntimeError):
        damaged = True
    if damaged:
        raise UserError(f"{path} is not a state, or it is damaged")


def _is_result(item):
    """Whether a step and what was found at it can be drawn (published ones lack some numbers)."""
    step, found = item
    if type(step) is not int or not isinstance(found, dict):
        return False
    numbers = [value for name, value in found.items() if name.endswith("loss")]
    if "recall" in found:
        recall, entropies = found["recall"], found.get("worst_entropies")
        if not isinstance(recall, list) or not isinstance(entropies, dict):
            return False
        if len(recall) < 3 or not {1, 2, 3, 4} <= set(entropies):
            return False
        numbers += [*recall, *entropies.values()]
    return all(isinstance(number, (int, float)) for number in numbers)


def load_trainer(trainer, saved, path):
    """Put a state's trainer into `trainer`, or say in one line why it does not fit."""
    _try_a_step(trainer)  # a mistake in a class of the user's own shows its traceback
    try:
        trainer.load_state_dict(saved)
        _try_a_step(trainer)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # what values that do not fit make PyTorch raise is not known
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} does not fit this training: {reason}", START_AGAIN) from error


def _try_a_step(trainer):
    """Take a step of gradient 0, save and load the state behind it, and restore everything."""
    weights = [parameter.detach().clone() for parameter in trainer.parameters]
    state = copy.deepcopy(trainer.state_dict())
    for parameter in trainer.parameters:
        parameter.grad = torch.zeros_like(parameter)
    trainer.optimizer.step()
    if trainer.scheduler is not None:
        with contextlib.suppress(ValueError):  # of a schedule that has come to its end
            trainer.scheduler.step()
    trainer.load_state_dict(copy.deepcopy(trainer.state_dict()))
    trainer.load_state_dict(state)
    for parameter, weight in zip(trainer.parameters, weights):
        parameter.data.copy_(weight)
        parameter.grad = None


def load_weights(network, weights, path):
    """Put a state's weights into `network`, or say in one line why they do not fit.

    DataParallel and torch.compile put a word before each name: weights saved from them fit, too.
    """
    if not network.state_dict().keys() & weights.keys():
        weights = {re.sub(r"^(module\.|_orig_mod\.)+", "", name): tensor for name, tensor in weights.items()}
    try:
        network.load_state_dict(weights)
    except (RuntimeError, AttributeError) as error:
        lines = str(error).splitlines()
        raise UserError(f"{path} is of another network: {lines[min(1, len(lines) - 1)].strip()}") from None
    name = _not_finite(network)
    if name is not None:
        raise UserError(f"{path}: {name} holds values that are not finite", START_AGAIN)


def work_differences(state, current, precision, banks=None):
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
    ignored = {key: None for key in RUN_LENGTH_KEYS}
    lines = differences({**current, **ignored}, {**state["config"], **ignored})
    saved_precision = state["trainer"].get("precision", str(precision))
    if saved_precision != str(precision):
        lines.append(f"precision {str(precision)[6:]}, not {str(saved_precision)[6:]}")
    banks = banks or {}
    return lines + [f"image banks {line}" for line in differences(banks, state["provenance"].get("banks", banks))]


def weights_digest(weights):
    """SHA-256 (first 16 hex digits) of a network's weights, names and shapes included."""
    contents = []
    for name, tensor in sorted(weights.items()):
        array = tensor.detach().cpu().contiguous()
        contents += [f"{name} {array.dtype} {tuple(array.shape)}", array.view(-1).view(torch.uint8).numpy().tobytes()]
    return digest_of(*contents)


def _plain(value):
    """Turn numpy scalars and arrays of a published state into Python numbers, lists and tensors.

    A tensor that is larger than the memory behind it is an error.
    """
    if isinstance(value, torch.Tensor) and value.nbytes > value.untyped_storage().nbytes():
        raise ValueError("a tensor that is larger than its memory")
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
