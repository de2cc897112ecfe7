"""state.pth: the weights and all that a resumed run needs."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import torch

import equihash
from equihash.config import complete, differences, find_class
from equihash.errors import UserError
from equihash.files import atomic

# what may differ between a saved and a resumed run: how long it is and what is looked at on the way
RUN_LENGTH_KEYS = ("nb_steps", "eval_freq", "eval_size")


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


def save_state(path, config, network, trainer, results):
    """Write state.pth atomically; `results` has the in-training evaluations of "train" and "valid" by step."""
    state = {
        "version": equihash.__version__,
        "config": config,
        "net": network.state_dict(),
        "trainer": trainer.state_dict(),
        "train_results": results["train"],
        "valid_results": results["valid"],
    }
    with atomic(path) as temporary:
        torch.save(state, temporary)


def load_state(path, command):
    """Read state.pth, ours or one in the published format, without running any code of it.

    Parameters
    ----------
    path : Path
    command : str
        What makes the file, for the message where there is none.

    Returns
    -------
    dict
        config (completed), net, trainer, train_results, valid_results; numpy values made plain.

    Raises
    ------
    UserError
        The file is missing, damaged, or not a state.
    """
    if not Path(path).is_file():
        raise UserError(f"{path} does not exist: train first with: {command}")
    try:
        with torch.serialization.safe_globals(_published_types()):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(f"{path} is refused: it is damaged, or holds more than tensors, numbers and text") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} cannot be read as a state, it is damaged: {reason}") from None
    keys = ("config", "net", "trainer", "train_results", "valid_results")
    if not isinstance(state, dict) or not all(isinstance(state.get(key), dict) for key in keys):
        raise UserError(f"{path} is not a state: it must hold {', '.join(keys)}")
    plain = {key: _plain(state[key]) for key in keys if key != "net"}
    return {**plain, "config": complete(plain["config"]), "net": state["net"]}


def load_weights(network, weights, path):
    """Put a state's weights into `network`, or say in one line why they do not fit."""
    try:
        network.load_state_dict(weights)
    except (RuntimeError, AttributeError) as error:
        lines = str(error).splitlines()
        raise UserError(f"{path} is of another network: {lines[min(1, len(lines) - 1)].strip()}") from None


def check_same_config(state, current, precision, path):
    """Refuse to go on from a state of another configuration or precision.

    Raises
    ------
    UserError
        Lists every difference.
    """
    ignored = {key: None for key in RUN_LENGTH_KEYS}
    lines = differences({**current, **ignored}, {**state["config"], **ignored})
    saved_precision = state["trainer"].get("precision", str(precision))
    if saved_precision != str(precision):
        lines.append(f"--precision {str(precision)[6:]}, not {saved_precision[6:]}")
    if lines:
        raise UserError(
            f"{path} was trained with another configuration: now {'; '.join(lines)}. "
            "Use --force_load to go on with the new values, or --no_load to start anew"
        )


def weights_digest(weights):
    """SHA-256 (first 16 hex digits) of a network's weights, names and shapes included."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        array = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {array.dtype} {tuple(array.shape)}".encode())
        digest.update(array.numpy().tobytes())
    return digest.hexdigest()[:16]


def _plain(value):
    """Turn numpy scalars and arrays of a published state into Python numbers, lists and tensors."""
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
