import io
import json
import math
import shutil
import signal
import subprocess
import sys
import time
from math import comb

import pytest
import torch
from conftest import GOLDEN, QUICK, REPOSITORY, assert_same, quick
from torch import nn

from equihash import devices
from equihash.datasets import MnistMosaic
from equihash.devices import select_precision
from equihash.errors import UserError
from equihash.event_file import EventFile
from equihash.models import MnistMosaicCNN
from equihash.process_settings import forbid_tf32
from equihash.state import load_state, load_weights, weights_digest
from equihash.trainers import HashNetTrainer, JMLHTrainer, ShannonHammingTrainer, Trainer

MODELS = ("ShannonHamming", "HashNet", "JMLH")
MNIST = REPOSITORY / "data" / "datasets" / "Mnist" / "mnist.hdf5"


def train(model, *overrides):
    return ["train.py", "FastMnistMosaic", model, *quick(*overrides)]


def make(trainer_class, seed=0, **kwargs):
    torch.manual_seed(seed)
    network = MnistMosaicCNN(k=16)
    return trainer_class(network, MnistMosaic(MNIST, size=8, seed=seed), nb_batch_per_step=3, **kwargs)


@pytest.mark.parametrize("model", MODELS)
def test_resumed_run_equals_undisturbed_run(workspace, model):
    scheduler = ["trainer_kwargs:lr_scheduler_class:ExponentialLR", 'trainer_kwargs:lr_scheduler_kwargs:{"gamma":0.9}']
    workspace.check(train(model, "nb_steps:6", *scheduler))
    whole = workspace.state(model)
    shutil.rmtree(workspace.experiments)
    workspace.check(train(model, "nb_steps:4", *scheduler))
    workspace.check(train(model, "nb_steps:6", *scheduler))
    resumed = workspace.state(model)
    assert resumed["trainer"]["step"] == 6
    assert_same(resumed, whole)
    if model == "JMLH":
        assert whole["trainer"]["modules"]["classifier"]["weight"].shape == (10000, 16)


@pytest.mark.parametrize("model", MODELS)
def test_the_loss_is_minimised(model):
    """A few steps on the very same batches lower the loss; each trainer moves all its parameters."""
    cls = {"ShannonHamming": ShannonHammingTrainer, "HashNet": HashNetTrainer, "JMLH": JMLHTrainer}[model]
    trainer = make(cls, optim_kwargs={"lr": 0.003}, **({"nb_classes": 5} if model == "JMLH" else {}))
    before = [parameter.clone() for parameter in trainer.parameters]
    first, last = None, None
    for _ in range(12):
        trainer.loader.reseed(1)
        trainer.train(1)
        entry = trainer.aggregate()
        last = entry["loss"]
        first = last if first is None else first
    assert last < first
    assert all(not torch.equal(a, b) for a, b in zip(before, trainer.parameters))


def test_one_and_two_forward_passes_give_the_same_run():
    runs = {}
    for passes in ("one", "two"):
        trainer = make(ShannonHammingTrainer, forward_passes=passes)
        trainer.train(3)
        runs[passes] = (trainer.network.state_dict(), trainer.aggregate())
    assert_same(*runs.values())


@pytest.mark.parametrize("model", [ShannonHammingTrainer, HashNetTrainer, JMLHTrainer])
def test_looking_ahead_changes_nothing(model):
    runs = {}
    for look_ahead in (False, True):
        trainer = make(model)
        trainer.look_ahead = look_ahead
        trainer.train(3)
        runs[look_ahead] = (trainer.network.state_dict(), trainer.state_dict())
    assert_same(*runs.values())


def test_auto_measures_whether_the_activations_fit(monkeypatch):
    for memory, passes in ((1 << 40, "one"), (1 << 10, "two")):
        monkeypatch.setattr("equihash.trainers.trainer.available_memory", lambda device, memory=memory: memory)
        trainer = make(ShannonHammingTrainer)
        trainer.train(1)
        assert trainer.forward_passes == passes
    assert int(trainer.network.bn.num_batches_tracked) == 3


def test_gradients_are_clipped_and_logged():
    trainer = make(HashNetTrainer, clip_value=1e-9, optim_class="SGD", optim_kwargs={"lr": 1.0})
    before = [parameter.clone() for parameter in trainer.parameters]
    trainer.train(1)
    moved = max((a - b).abs().max().item() for a, b in zip(before, trainer.parameters))
    assert 0 < moved <= 1.3e-7  # one rounding error of float32 around 1
    entry = trainer.aggregate()
    assert 0.5 < entry["clipped_fraction"] <= 1 and entry["saturated_fraction"] == 0
    assert trainer.training_log == {1: entry}


class Watched(ShannonHammingTrainer):
    """Keeps the logits that its loss is given, and so their gradient."""

    def loss(self, logits, target):
        self.logits = logits
        return super().loss(logits, target)


def test_shuffled_partial_tuples():
    """Only the Shannon loss has a gradient: that of the logits in the order drawn, in their own order."""
    lambdas = {"shannon_lambda": 1.0, "hamming_lambda": 0.0}
    trainer = make(Watched, shannon_tuple_size=4, shannon_shuffle_logits=True, **lambdas)
    trainer.train(1)
    twin = MnistMosaic(MNIST, size=8, seed=0)
    for _ in range(3):
        twin.positive_pairs_labels()
    order = torch.from_numpy(twin.label_stream.permutation(16))
    plain, entropy = trainer.shannon_gradient(trainer.logits.detach().flatten(0, -2)[:, order].contiguous())
    torch.testing.assert_close(trainer.logits.grad.flatten(0, -2)[:, order], plain)
    assert trainer.aggregate()["shannon_entropy"] == pytest.approx(entropy.item() / trainer.nb_tuples)


def test_the_logged_loss_is_whole():
    trainer = make(ShannonHammingTrainer, shannon_lambda=5.0, huber_loss_kwargs={"maximum_slope": 0.1})
    trainer.train(1)
    entry = trainer.aggregate()
    shannon_loss = -5.0 * entry["shannon_entropy"] * comb(16, 3)
    assert entry["loss"] == pytest.approx(entry["hamming_loss"] + entry["huber_loss"] + shannon_loss, rel=1e-6)
    assert 0 < entry["shannon_entropy"] < 3 * math.log(2) and entry["huber_loss"] > 0


def test_bfloat16_is_close_to_float32():
    trainers = [make(Watched, precision=precision) for precision in (torch.float32, torch.bfloat16)]
    for trainer in trainers:
        trainer.train(1)
    exact, rounded = (trainer.logits for trainer in trainers)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).norm() / exact.norm() < 0.05


@pytest.mark.parametrize(
    "flags, expected",
    [(["avx2"], torch.float32), (["avx2", "avx512_bf16"], torch.bfloat16), (["amx_bf16"], torch.bfloat16)],
)
def test_auto_is_the_fastest_native_precision(flags, expected, monkeypatch):
    cpuinfo, real = f"processor : 0\nflags : {' '.join(flags)}\n", open
    monkeypatch.setattr(
        "builtins.open", lambda path, *a: io.StringIO(cpuinfo) if path == "/proc/cpuinfo" else real(path, *a)
    )
    cpu = torch.device("cpu")
    assert devices.native_precisions(cpu) == list(dict.fromkeys([torch.float32, expected]))
    assert select_precision("auto", cpu) == expected
    assert select_precision("float32", cpu) == torch.float32


def test_float32_is_not_tf32():
    forbid_tf32()
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32


def test_a_loss_that_is_not_finite_stops_the_run(workspace):
    workspace.check(train("HashNet", "nb_steps:2"))
    before = workspace.state("HashNet")
    command = train("HashNet", "nb_steps:6", "trainer_kwargs:alpha:NaN")
    workspace.refuse([*command, "--force_load"], "loss is nan at step 3")
    assert_same(workspace.state("HashNet"), before)


class NaNTrainer(HashNetTrainer):
    def loss(self, logits, target):
        return super().loss(logits, target) * (float("inf") if self.step == 2 else 1)


def test_the_first_bad_step_is_named():
    with pytest.raises(UserError, match="loss is inf at step 3"):
        make(NaNTrainer).train(4)


@pytest.mark.pictures
def test_stops_at_nb_steps_and_keeps_checkpoints_and_log(workspace):
    workspace.check([*train("HashNet", "nb_steps:5", "eval_freq:2"), "-e", "-p", "1", "4"])
    home = workspace.experiments / "FastMnistMosaic" / "HashNet" / "main"
    assert workspace.state("HashNet")["trainer"]["step"] == 5
    for step in (1, 4):
        assert workspace.state("HashNet", which=f"checkpoint{step}")["trainer"]["step"] == step
    log = [json.loads(line) for line in (home / "current" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [0, 2, 4, 5]
    assert "loss" not in log[0] and "loss" in log[1] and set(log[3]) >= {"train", "valid", "clipped_fraction"}
    found = log[3]["valid"]
    assert sum(found["positive_hamming_distances"]) == found["nb_pairs"] == 64 and found["nb_codes"] == 128
    assert set(found["worst_entropies"]) == {"1", "2", "3", "4"} and len(found["recall"]) == 3
    for name in ("training_curve.png", "instances.png"):
        assert (home / "current" / name).read_bytes().startswith(b"\x89PNG")
    # a checkpoint is a start for more training, the same as the run it was taken from
    final = workspace.state("HashNet")
    workspace.check([*train("HashNet", "nb_steps:5", "eval_freq:2"), "-l", "4"])
    assert_same(workspace.state("HashNet")["net"], final["net"])


def test_resuming_between_evaluations_changes_nothing(workspace):
    """From a checkpoint in the middle of a log interval, with every random stream in use."""
    words = ["trainer_kwargs:shannon_shuffle_logits:true", "nb_steps:5", "eval_freq:4"]
    workspace.check([*train("ShannonHamming", *words), "-p", "3"])
    whole = workspace.state("ShannonHamming")
    assert whole["trainer"]["training_log"].keys() == {4, 5}
    workspace.check([*train("ShannonHamming", *words), "-l", "3"])
    assert_same(workspace.state("ShannonHamming"), whole)


def test_forced_values_hold(workspace):
    workspace.check(train("HashNet", "nb_steps:2"))
    workspace.check([*train("HashNet", "trainer_kwargs:optim_kwargs:lr:0.01", "nb_steps:4"), "-f"])
    optimizer = workspace.state("HashNet")["trainer"]["optim"]
    assert optimizer["param_groups"][0]["lr"] == 0.01 and optimizer["state"][0]["step"] == 4
    output = workspace.check([*train("HashNet", "trainer_kwargs:optim_class:AdamW", "nb_steps:6"), "-f"])
    assert "another optimizer" in output
    assert workspace.state("HashNet")["trainer"]["optim"]["state"][0]["step"] == 2


def test_schedules_from_the_command_line(workspace):
    words = ["trainer_kwargs:lr_scheduler_class:OneCycleLR", "trainer_kwargs:lr_scheduler_kwargs:max_lr:0.01"]
    words += ["trainer_kwargs:lr_scheduler_kwargs:total_steps:4"]
    workspace.check(train("HashNet", *words))
    log = workspace.state("HashNet")["trainer"]["training_log"]
    assert log[2]["learning_rate"] > log[4]["learning_rate"]
    workspace.refuse(train("HashNet", *words, "nb_steps:6"), "schedule ends at step 4", "lr_scheduler_kwargs")
    assert workspace.state("HashNet")["trainer"]["step"] == 4


def test_what_memory_a_run_takes_may_change(workspace):
    workspace.check(train("HashNet", "nb_steps:2", "trainer_kwargs:forward_passes:one"))
    command = train("HashNet", "nb_steps:4", "trainer_kwargs:forward_passes:two")
    assert "resuming from step 2" in workspace.check(command)


def test_precision_is_part_of_a_run(workspace):
    workspace.check([*train("HashNet", "nb_steps:2"), "--precision", "bfloat16"])
    workspace.refuse(train("HashNet", "nb_steps:4"), "precision float32, not bfloat16")
    workspace.check([*train("HashNet", "nb_steps:4"), "--precision", "bfloat16"])


@pytest.mark.parametrize(
    "model, override, words",
    [
        ("ShannonHamming", "trainer_kwargs:shannon_gradient_kwargs:gradient_type:smooth", ["pseudo-smooth"]),
        ("JMLH", "trainer_kwargs:loss_kwargs:binarization:signum", ["heaviside"]),
        ("JMLH", "trainer_kwargs:nb_classes:0", ["nb_classes"]),
        ("HashNet", "network_kwargs:k:63", ["multiple of 8"]),
        ("HashNet", "trainer_kwargs:optim_kwargs:learning_rate:0.1", ["Adam", "learning_rate"]),
        ("HashNet", "trainer_kwargs:clip_value:null", ["must be float"]),
        ("ShannonHamming", "trainer_kwargs:shannon_tuple_cover_size:4", ["between shannon_tuple_cover_size, 4,"]),
        ("ShannonHamming", "trainer_kwargs:shannon_tuple_size:65", ["the number of bits", "not 65"]),
        ("ShannonHamming", "trainer_kwargs:huber_loss_kwargs:branching_point:0.0", ["branching_point"]),
    ],
)
def test_values_are_checked_before_any_work(workspace, model, override, words):
    workspace.refuse(train(model, override), *words)
    assert not workspace.experiments.exists()


def test_new_options_of_an_optimizer_keep_its_moments_or_are_refused(workspace):
    options = "trainer_kwargs:optim_kwargs:"
    workspace.check(train("HashNet", "nb_steps:2"))
    workspace.refuse(
        [*train("HashNet", "nb_steps:4", f"{options}amsgrad:true"), "--force_load"], "max_exp_avg_sq", "no_load"
    )
    workspace.check([*train("HashNet", "nb_steps:4", f"{options}weight_decay:0.1"), "--force_load"])


def test_no_save_and_no_load(workspace):
    workspace.check([*train("HashNet", "nb_steps:2"), "--no_save"])
    assert not workspace.experiments.exists()
    workspace.check(train("HashNet", "nb_steps:2"))
    first = workspace.state("HashNet")
    workspace.check([*train("HashNet", "nb_steps:2"), "--no_load"])
    assert_same(workspace.state("HashNet"), first)


def test_another_configuration_needs_force(workspace):
    workspace.check(train("HashNet", "nb_steps:2"))
    workspace.refuse(train("HashNet", "trainer_kwargs:alpha:0.3"), "alpha 0.3, not 0.15", "--force_load")
    workspace.check([*train("HashNet", "trainer_kwargs:alpha:0.3"), "-f"])
    assert workspace.state("HashNet")["trainer"]["step"] == 4
    workspace.refuse([*train("HashNet", "network_kwargs:k:32"), "-f"], "another network")


@pytest.fixture
def shown(monkeypatch):
    """Returns {tag: [(step, value)]} that TensorBoard shows of the event files of a folder."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.summary.writer import event_file_writer

    # files of one second are sorted by this number, as text
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))

    def read(folder):
        found = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
        return {tag: [(each.step, each.value) for each in found.Scalars(tag)] for tag in found.Tags()["scalars"]}

    return read


def test_events_have_neither_duplicates_nor_holes(workspace, shown):
    """A process is killed after it wrote more than the state that the next one resumes from."""
    workspace.check([*train("HashNet"), "-e", "-p", "2"])
    folder = workspace.experiments / "FastMnistMosaic" / "HashNet" / "main" / "current"
    for command in ([*train("HashNet", "nb_steps:6"), "-l", "2"], None):
        found, log = shown(folder), workspace.state("HashNet")["trainer"]["training_log"]
        assert found["training/loss"] == [(step, pytest.approx(entry["loss"])) for step, entry in log.items()]
        assert [step for step, _ in found["recall/valid, Hamming <= 0"]] == [0, *log]
        if command:
            workspace.check(command)
    assert list(log) == [2, 4, 6]


def test_events_of_processes_that_are_killed(tmp_path, shown):
    """Each resumes from a state, whose last step may or may not be among the events."""
    for steps in ((2, 4), (2, 4, 6), (2, 4, 6), (2, 4)):
        events = EventFile(tmp_path)
        events.update({step: {"loss": float(step)} for step in steps}, {"train": {}, "valid": {}})
        events.close()
        assert shown(tmp_path) == {"training/loss": [(step, step) for step in steps]}
    newest = sorted(tmp_path.iterdir())[-1]
    assert newest.read_bytes().count(b"training/loss") == 1  # what older processes wrote is not written again


def test_events_are_no_reason_to_fail(workspace, monkeypatch):
    def full(*_):
        raise OSError("no space")

    pytest.importorskip("tensorboard")
    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_scalar", full)
    output = workspace.check(train("HashNet", "nb_steps:2", "eval_freq:1"))
    assert output.count("warning: no more events for TensorBoard") == 1
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    without = EventFile(workspace.folder / "nowhere")
    without.update({1: {"loss": 0.5}}, {"train": {}, "valid": {}})
    without.close()
    assert not without.folder.exists()


def test_a_run_says_how_it_goes_on(workspace, monkeypatch):
    draw = HashNetTrainer.draw

    def interrupted(trainer, generator):
        monkeypatch.undo()  # once
        signal.raise_signal(signal.SIGINT)
        return draw(trainer, generator)

    monkeypatch.setattr(HashNetTrainer, "draw", interrupted)
    command = ["train.py", "FastMnistMosaic", "HashNet", "-v", "alpha_ablation", "-i", "all", "--precision", "float32"]
    code, output = workspace.run([*command, *quick("trainer_kwargs:optim_kwargs:betas:[0.5, 0.9]")])
    assert code == 130, output
    words = "python train.py FastMnistMosaic HashNet -v alpha_ablation -i all -d cpu -a nb_steps:4"
    assert f"resume it with: {words}" in output and "'trainer_kwargs:optim_kwargs:betas:[0.5, 0.9]'" in output


def test_ctrl_c_saves_and_leaves_cleanly(workspace):
    overrides = [word for word in QUICK if not word.startswith(("nb_steps", "eval_freq"))]
    command = [sys.executable, REPOSITORY / "train.py", "FastMnistMosaic", "HashNet", "-d", "cpu"]
    command += ["-a", *overrides, "nb_steps:100000", "eval_freq:100000"]
    process = subprocess.Popen(command, cwd=workspace.folder, stderr=subprocess.PIPE, text=True)
    path = workspace.experiments / "FastMnistMosaic" / "HashNet" / "main" / "current" / "state.pth"
    while not path.exists():
        time.sleep(0.1)
        assert process.poll() is None, process.stderr.read()
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors and "stopped at step" in errors.strip().splitlines()[-1]
    state = workspace.state("HashNet")
    step = state["trainer"]["step"]
    assert step > 0 and f"stopped at step {step};" in errors
    assert len(state["trainer"]["pending"]["loss"]) == step  # the log goes on where it was
    workspace.check(["train.py", "FastMnistMosaic", "HashNet", "-d", "cpu", "-a", *overrides, f"nb_steps:{step + 1}"])
    assert workspace.state("HashNet")["trainer"]["step"] == step + 1


def test_published_state_loads_and_trains_on(workspace):
    folder = workspace.experiments / "FastMnistMosaic" / "ShannonHamming" / "main" / "current"
    folder.mkdir(parents=True)
    shutil.copy(GOLDEN / "checkpoint" / "state.pth", folder)
    state = load_state(folder / "state.pth")
    start = state["trainer"]["step"]
    assert weights_digest(state["net"]) != weights_digest(MnistMosaicCNN().state_dict())
    arguments = [f"nb_steps:{start + 2}", "eval_freq:1", "eval_size:64", "loader_kwargs:size:16"]
    command = ["train.py", "FastMnistMosaic", "ShannonHamming", "-d", "cpu", "-f", "-a", *arguments]
    output = workspace.check([*command, "trainer_kwargs:nb_batch_per_step:2"])
    assert f"resuming from step {start}" in output and "warning" not in output
    ours = workspace.state("ShannonHamming")
    assert ours["trainer"]["step"] == start + 2
    assert set(ours["train_results"]) >= {start, start + 2}
    assert ours["trainer"]["optim"]["state"][0]["step"] > start


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_weights_saved_from_a_wrapped_network_load(prefix):
    """DataParallel and torch.compile put a word before each name."""
    trained, network = make(HashNetTrainer, seed=1).network, make(HashNetTrainer).network
    weights = {f"{prefix}{name}": tensor for name, tensor in trained.state_dict().items()}
    load_weights(network, weights, "state.pth")
    assert_same(dict(network.state_dict()), dict(trained.state_dict()))
    if prefix == "module.":
        load_weights(nn.DataParallel(network), weights, "state.pth")


def test_a_module_of_the_networks_own_keeps_its_name():
    network = nn.Sequential()
    network.module = nn.Linear(2, 3)
    load_weights(network, {name: torch.ones_like(tensor) for name, tensor in network.state_dict().items()}, "state.pth")
    assert network.module.weight.eq(1).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_used(value):
    weights = make(HashNetTrainer).network.state_dict()
    next(iter(weights.values())).view(-1)[0] = value
    with pytest.raises(UserError, match="state.pth: conv1.weight holds values that are not finite"):
        load_weights(MnistMosaicCNN(k=16), weights, "state.pth")


@pytest.mark.parametrize("content", [b"", b"not a state", b"PK\x03\x04", "list"])
def test_states_that_are_none_are_refused(workspace, content):
    folder = workspace.experiments / "FastMnistMosaic" / "HashNet" / "main" / "current"
    folder.mkdir(parents=True)
    if content == "list":
        torch.save([1, 2], folder / "state.pth")
    else:
        (folder / "state.pth").write_bytes(content)
    workspace.refuse(train("HashNet"), "state.pth")


class Harmful:
    def __reduce__(self):
        return exec, ("open('harmed', 'w').close()",)


def test_a_state_cannot_run_code(workspace):
    folder = workspace.experiments / "FastMnistMosaic" / "HashNet" / "main" / "current"
    folder.mkdir(parents=True)
    torch.save({"net": {}, "config": Harmful(), "trainer": {}}, folder / "state.pth")
    workspace.refuse(train("HashNet"), "state.pth")
    assert not (workspace.folder / "harmed").exists()


@pytest.mark.parametrize(
    "kwargs, words",
    [
        ({"optim_class": "Adamm"}, "optim_class 'Adamm' .did you mean 'Adam'"),
        ({"optim_kwargs": {"learning_rate": 1}}, "Adam takes no trainer_kwargs:optim_kwargs:learning_rate"),
        ({"lr_scheduler_class": "OneCycle"}, "lr_scheduler_class 'OneCycle' .did you mean 'OneCycleLR'"),
        ({"lr_scheduler_class": "OneCycleLR"}, "lr_scheduler_kwargs: OneCycleLR"),
        ({"forward_passes": "three"}, "forward_passes must be auto, one or two"),
    ],
)
def test_optimizers_and_schedules_are_checked(kwargs, words):
    with pytest.raises(UserError, match=words):
        make(HashNetTrainer, **kwargs)


def test_base_class_says_what_to_define():
    trainer = Trainer(nn.Linear(1, 1), MnistMosaic(MNIST, size=2))
    for method, arguments in (("draw", (None,)), ("loss", (None, None))):
        with pytest.raises(NotImplementedError):
            getattr(trainer, method)(*arguments)
