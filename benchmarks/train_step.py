"""Time a training step of FastMnistMosaic: python benchmarks/train_step.py (from the repository root).

For each model, and each precision that the device has natively: the median time of a step and of its parts; its
multiplications and additions (the network's by PyTorch's count, and the matrix products of the Shannon gradient);
their rate as a fraction of that of a square matrix product, measured in the same run; and how many times longer two
others take. "plain" is timed in the same run: PyTorch's operations one by one, channels first, in float32, logits
computed twice for a joint loss, and the Shannon gradient gathered tuple by tuple (timed on some of the tuples, and
scaled). "published" is the published code, timed once on two cores of this kind.
"""

import argparse
import copy
import os
import statistics
import sys
import time
from functools import partial

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
os.environ["TQDM_DISABLE"] = "1"

import torch
import torch.nn.functional as F
from shannon import BASELINE_TUPLES, gathering_gradient, gflop, seconds
from torch.utils.flop_counter import FlopCounterMode

from equihash.command_line import add_device_argument, run
from equihash.config import find_class, load_config
from equihash.devices import native_precisions, select_device
from equihash.from_config import build_loader, build_network
from equihash.losses import training_tuples
from equihash.process_settings import keep_freed_memory

PUBLISHED = {"ShannonHamming": 31.2, "HashNet": 7.0, "JMLH": 2.9}  # seconds
GEMM_SIZE = 2048
PARTS = ("data", "forward", "loss", "optimizer")


class Timer:
    """Adds up the time spent in methods, by part of a step."""

    def __init__(self, device):
        self.device, self.spent = device, {}

    def watch(self, owner, method, part):
        function = getattr(owner, method)

        def timed(*args, **kwargs):
            start = self.now()
            result = function(*args, **kwargs)
            self.spent[part] = self.spent.get(part, 0) + self.now() - start
            return result

        setattr(owner, method, timed)

    def now(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def build_trainer(config, device, precision):
    network = build_network(config, device)
    loader = build_loader(config, "train", device, config["seed"])
    return find_class(config, "trainer")(network, loader, precision=precision, **config["trainer_kwargs"])


def step_times(trainer, nb_steps):
    """Medians of a step and its parts, in seconds, after two steps that are not counted."""
    timer = Timer(trainer.loader.device)
    trainer.train(2)
    timer.watch(trainer, "draw", "data")
    timer.watch(trainer.loader, "batch_from_labels", "data")
    timer.watch(trainer, "_forward", "forward")
    timer.watch(trainer, "loss", "loss")
    timer.watch(trainer.optimizer, "step", "optimizer")
    steps = []
    for _ in range(nb_steps):
        timer.spent = {}
        start = timer.now()
        trainer.train(1)
        steps.append({**timer.spent, "step": timer.now() - start})
    medians = {part: statistics.median(step[part] for step in steps) for part in (*PARTS, "step")}
    return {**medians, "backward": medians["step"] - sum(medians[part] for part in PARTS)}


def step_gflop(trainer):
    """Multiplications and additions of a step, in 10^9: all forward passes needed are one, and one backward."""
    labels, _ = trainer.draw(trainer.loader.noise_generator(0))
    instances = trainer.loader.batch_from_labels(labels)
    network = copy.deepcopy(trainer.network).to("meta")
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(instances.shape, dtype=instances.dtype, device="meta")).sum().backward()
    total = 1e-9 * counter.get_total_flops() * trainer.nb_batch_per_step
    nb_logits = instances.shape[0] * trainer.nb_batch_per_step * (instances[0].numel() // 56**2)
    for name in trainer.modules:
        total += 6e-9 * nb_logits * trainer.modules[name].weight.numel()
    if trainer.joint_loss:
        total += gflop(training_tuples(trainer.network.k, 3, 3), nb_logits)
    return total


def plain_forward(network, instances):
    """What MnistMosaicCNN computes, by PyTorch's operations one by one."""
    x = F.relu(F.max_pool2d(network.conv1(instances.reshape(-1, 1, 56, 56)), 2))
    x = F.relu(F.max_pool2d(network.conv2(network.conv2_bn(x)), 2))
    x = F.relu(F.max_pool2d(network.conv3(network.conv3_bn(x)), 2))
    x = network.bn(network.fc2(F.relu(network.fc1(x.flatten(1)))))
    return x.reshape(*instances.shape[:-2], -1)


def plain_step(config, device):
    """Seconds of a step of plain PyTorch operations."""
    trainer = build_trainer(config, device, torch.float32)
    network = trainer.network.to(memory_format=torch.contiguous_format)

    network.forward = partial(plain_forward, network)
    gathering = 0
    if trainer.joint_loss:
        trainer.forward_passes = "two"
        trainer.shannon_gradient = lambda logits: (torch.zeros_like(logits), logits.new_zeros(()))
        tuples = torch.as_tensor(training_tuples(network.k, 3, 3), device=device)
        some = tuples[:: -(-len(tuples) // BASELINE_TUPLES)]
        logits = torch.randn(2 * trainer.nb_batch_per_step * trainer.loader.size, network.k, device=device)
        gathering = seconds(lambda: gathering_gradient(logits, some), 1, device) * len(tuples) / len(some)
    return step_times(trainer, 1)["step"] + gathering


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=7, help="timed steps of each row (default: 7)")
    parser.add_argument("--models", nargs="+", default=list(PUBLISHED), choices=PUBLISHED, help="default: all")
    add_device_argument(parser)
    args = parser.parse_args()
    keep_freed_memory()
    device = select_device(args.device)
    print(f"FastMnistMosaic on {device}, {torch.get_num_threads()} threads; milliseconds")
    parts = ("step", "data", "forward", "loss", "backward", "optimizer")
    print("| model | precision |", " | ".join(parts), "| GFLOP | of GEMM rate | plain | published |")
    print("| --- | --- |" + " ---: |" * (len(parts) + 4))
    for model in args.models:
        config = load_config("FastMnistMosaic", model)
        plain = plain_step(config, device)
        for precision in native_precisions(device):
            trainer = build_trainer(config, device, precision)
            times = step_times(trainer, args.steps)
            square = torch.randn(GEMM_SIZE, GEMM_SIZE, device=device, dtype=precision)
            gemm_rate = 2e-9 * GEMM_SIZE**3 / seconds(lambda: square @ square, 9, device)
            work = step_gflop(trainer)
            print(
                f"| {model} | {str(precision)[6:]} | " + " | ".join(f"{1e3 * times[part]:.0f}" for part in parts),
                f"| {work:.0f} | {work / times['step'] / gemm_rate:.2f} of {gemm_rate:.0f} GFLOP/s "
                f"| {plain / times['step']:.1f}x | {PUBLISHED[model] / times['step']:.1f}x |",
                flush=True,
            )


if __name__ == "__main__":
    run(main)
