"""From picture files to logits."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from equihash.devices import select_device
from equihash.errors import UserError
from equihash.experiment import Experiment
from equihash.image_files import UnreadableImage, read_scaled
from equihash.inference import compute_logits
from equihash.state import load_network, weights_digest
from equihash.threads import NB_THREADS, map_in_order

BATCH = 32  # pictures that a thread reads, and the network gets together
RULES = 1  # version of how pictures are read


@dataclass
class Encoded:
    """What is known of a picture file.

    Attributes
    ----------
    size : (int, int) or None
        Width and height, upright, in pixels.
    logits : float32 array (k,) or None
    reason : str
        Why it could not be read, if the others are None.
    final : bool
        False where the system could not read the file: it is tried again the next time.
    """

    size: tuple[int, int] | None = None
    logits: np.ndarray | None = None
    reason: str = ""
    final: bool = True


class PictureEncoder:
    """The network of an experiment whose instances are of `equihash.datasets.PictureCopies`; it needs no bank.

    Attributes
    ----------
    nb_bits : int
        k.
    identity : str
        Differs from that of any encoder that gives other logits.

    Raises
    ------
    UserError
        There is no state, or it is of another data set.
    """

    def __init__(self, experiment: Experiment, device: str = "auto"):
        self.device = select_device(device)
        state = experiment.load_state()
        config = state["config"]
        if config["loader_class"] != "PictureCopies":
            raise UserError(f"{experiment} was trained on {config['loader_class']}, not on pictures (PictureCopies)")
        self.side = config["loader_kwargs"]["side"]
        self.network = load_network(state, experiment.state_path, self.device)
        self.nb_bits = self.network.k
        self.identity = f"{weights_digest(state['net'])} {self.side} {RULES} {self.device.type}"

    def encode(self, paths: Iterable[Path]) -> Iterator[Encoded]:
        """Yield an `Encoded` of each file, in order. A few batches are encoded ahead, each by one thread."""
        paths = iter(paths)
        batches = iter(lambda: list(islice(paths, BATCH)), [])
        nb_threads = torch.get_num_threads()
        try:
            with ThreadPoolExecutor(NB_THREADS, "pictures", torch.set_num_threads, (1,)) as pool:
                for batch in map_in_order(pool, self._encode_batch, batches, 2 * NB_THREADS):
                    yield from batch
        finally:
            torch.set_num_threads(nb_threads)  # a thread's number is also the default of threads to come

    def _encode_batch(self, paths):
        results = [self._read(path) for path in paths]
        readable = [(pixels, encoded) for pixels, encoded in results if pixels is not None]
        if readable:
            instances = torch.from_numpy(np.stack([pixels for pixels, _ in readable])).permute(0, 3, 1, 2)
            logits = compute_logits(self.network, instances.to(self.device)).cpu()
            if not logits.isfinite().all():
                raise UserError("the network gave logits that are not finite")
            for (_, encoded), row in zip(readable, logits.numpy()):
                encoded.logits = row
        return [encoded for _, encoded in results]

    def _read(self, path):
        """Return the pixels of a file, or None, and its `Encoded`, still without logits."""
        try:
            pixels, size = read_scaled(path, self.side)
        except UnreadableImage as error:
            return None, Encoded(reason=str(error))
        except OSError as error:
            return None, Encoded(reason=error.strerror or str(error), final=False)
        except MemoryError:
            return None, Encoded(reason="not enough memory", final=False)
        return pixels, Encoded(size)
