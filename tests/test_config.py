import json
import shutil

import pytest
from conftest import REPOSITORY, quick

from equihash import datasets, trainers
from equihash.config import differences, load_config, read_variants
from equihash.datasets import Dataset, MnistMosaic
from equihash.errors import UserError
from equihash.trainers import HashNetTrainer, JMLHTrainer

TABLES = {
    ("FastMnistMosaic", "ShannonHamming", "lambda_ablation"): (55, "s3210_l0.005", "s3214_l0.06"),
    ("FastMnistMosaic", "ShannonHamming", "l2_ablation"): (15, "s3210_l2_0.001", "s3214_l2_0.1"),
    ("FastMnistMosaic", "ShannonHamming", "partial4_ablation"): (60, "s3210_p4_l0.001", "s3214_p4_l0.05"),
    ("FastMnistMosaic", "ShannonHamming", "partial4x4_ablation"): (50, "s3210_p4x4_l0.001", "s3214_p4x4_l0.03"),
    ("FastMnistMosaic", "ShannonHamming", "shannon_pairs_ablation"): (70, "s3210_pairs_l0.8", "s3214_pairs_l5.0"),
    ("FastMnistMosaic", "ShannonHamming", "pseudo_grad_ablation"): (40, "s3210_pseudo_l0.005", "s3214_pseudo_l0.05"),
    ("FastMnistMosaic", "HashNet", "alpha_ablation"): (50, "s3210_a0.01", "s3214_a0.1"),
    ("FastMnistMosaic", "JMLH", "nb_classes_ablation"): (20, "s3210_n100", "s3214_n100000"),
    ("MnistMosaic", "ShannonHamming", "pseudo_grad_ablation"): (40, "s3210_pseudo_l0.005", "s3214_pseudo_l0.05"),
}


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


def test_published_values():
    config = load_config("FastMnistMosaic", "ShannonHamming")
    assert (config["name"], config["seed"], config["nb_steps"]) == ("main", 51966, 100000)
    assert (config["eval_freq"], config["eval_size"]) == (100, 50000)
    network = {"k": 64, "batch_norm": True, "initial_spread": 1.0}
    assert config["network_class"] == "MnistMosaicCNN" and config["network_kwargs"] == network
    assert config["loader_class"] == "MnistMosaic" and config["loader_kwargs"]["size"] == 256
    trainer = config["trainer_kwargs"]
    assert config["trainer_class"] == "ShannonHammingTrainer"
    assert (trainer["optim_class"], trainer["optim_kwargs"], trainer["clip_value"]) == ("Adam", {"lr": 0.001}, 10.0)
    assert (trainer["nb_batch_per_step"], trainer["shannon_lambda"], trainer["hamming_lambda"]) == (8, 0.01, 1.0)
    assert trainer["shannon_gradient_kwargs"] == {"batch_size": 512, "gradient_type": "normal", "prior": 1.0}
    assert trainer["huber_loss_kwargs"] == {"maximum_slope": 0.0, "branching_point": 9.0}
    hashnet = load_config("FastMnistMosaic", "HashNet")["trainer_kwargs"]
    assert hashnet["alpha"] == 0.15
    assert hashnet["beta_scheduler_kwargs"] == {"init": 1.0, "gamma": 0.0005, "power": 0.5, "step_size": 200}
    jmlh = load_config("FastMnistMosaic", "JMLH")["trainer_kwargs"]
    assert jmlh["nb_classes"] == 10000
    assert jmlh["loss_kwargs"] == {
        "kld_coeff": 0.1, "bias": True, "deterministic": False, "binarization": "heaviside"
    }  # fmt: skip


# of all tasks
TRAINER_KWARGS = {
    "HashNetShannon": {"alpha": 0.05, "shannon_lambda": 0.0001},
    "DPSH": {"quantization_coeff": 0.1},
    "DCH": {"gamma": 20.0, "quantization_coeff": 0.1},
    "AlignUniform": {"uniformity_t": 5.0, "uniformity_coeff": 0.04, "quantization_coeff": 0.1},
    "SSCD": {"temperature": 0.05, "koleo_coeff": 30.0},
    "GreedyHash": {"nb_classes": 10000, "quantization_coeff": 0.1},
    "CSQ": {"nb_classes": 10000, "quantization_coeff": 0.0001},
    "OrthoHash": {"nb_classes": 10000, "scale": 8.0, "margin": 0.2},
}


@pytest.mark.parametrize("task", ["FastMnistMosaic", "MnistMosaic", "OpenImagesMosaic"])
@pytest.mark.parametrize("model", TRAINER_KWARGS)
def test_values_of_the_papers(task, model):
    config = load_config(task, model)
    assert (config["name"], config["trainer_class"]) == ("main", f"{model}Trainer")
    assert config["trainer_kwargs"].items() >= TRAINER_KWARGS[model].items()


def test_hashnet_shannon_has_the_keys_of_both():
    both, hashnet, shannon = (
        load_config("FastMnistMosaic", model)["trainer_kwargs"]
        for model in ("HashNetShannon", "HashNet", "ShannonHamming")
    )
    shannon = {key: value for key, value in shannon.items() if key.startswith("shannon_")}
    assert both == {**hashnet, **shannon, "alpha": 0.05, "shannon_lambda": 0.0001}


def test_other_models_of_shannon_hamming():
    plain, pseudo, quad = (load_config("OpenImagesMosaic", model) for model in ("ShannonHamming", "PseudoSH", "SHQuad"))
    gradient_type = "trainer_kwargs:shannon_gradient_kwargs:gradient_type"
    assert differences(plain, pseudo) == [f'{gradient_type} "normal", not "pseudo-smooth"']
    assert pseudo["trainer_kwargs"]["shannon_lambda"] == 0.03
    assert differences(plain, quad) == [
        "trainer_kwargs:shannon_lambda 0.03, not 0.01",
        "trainer_kwargs:shannon_tuple_size 3, not 4",
        "trainer_kwargs:shannon_shuffle_logits false, not true",
    ]
    assert quad["trainer_kwargs"]["shannon_tuple_cover_size"] == 3


@pytest.mark.parametrize("task, model, table", TABLES)
def test_variant_tables(task, model, table):
    nb_rows, first, last = TABLES[task, model, table]
    header, rows = read_variants(task, model, table)
    names = [row[header.index("name")] for row in rows]
    assert (len(rows), names[0], names[-1]) == (nb_rows, first, last)
    for number, row in enumerate(rows):
        config = load_config(task, model, table, number)
        assert config["seed"] == 3210 + number % 5
        assert config["name"].startswith(f"s{config['seed']}_")
        assert str(row[-1]) in config["name"]


@pytest.mark.parametrize(
    "model, table",
    [("ShannonHamming", "quickstart"), ("ShannonHamming", "bits_ablation")]
    + [(model, "equal_time") for model in ("ShannonHamming", "HashNet", "JMLH")],
)
def test_schedules_of_short_runs_end_with_them(model, table):
    _, rows = read_variants("FastMnistMosaic", model, table)
    for number in range(len(rows)):
        config = load_config("FastMnistMosaic", model, table, number)
        schedule = config["trainer_kwargs"]["lr_scheduler_kwargs"]
        assert config["nb_steps"] in (0, schedule["total_steps"])


def test_no_two_variants_of_a_model_share_a_name():
    for folder in (REPOSITORY / "configs").glob("*/*/"):
        names = ["main"]
        for path in folder.glob("*.json"):
            if path.stem != "modelconfig":
                header, rows = read_variants(folder.parent.name, folder.name, path.stem)
                names += [row[header.index("name")] for row in rows]
        assert len(names) == len(set(names))


def test_a_row_of_a_published_table():
    config = load_config("FastMnistMosaic", "ShannonHamming", "lambda_ablation", 5)
    assert config["name"] == "s3210_l0.006" and config["trainer_kwargs"]["shannon_lambda"] == 0.006


def test_overrides_keep_the_type():
    words = [
        "nb_steps:10", "trainer_kwargs:optim_kwargs:lr:1", "network_kwargs:batch_norm:false",
        "trainer_kwargs:lr_scheduler_class:StepLR", "trainer_kwargs:lr_scheduler_kwargs:step_size:3",
        "loader_kwargs:path:a:b", "nb_steps:1e3",
    ]  # fmt: skip
    config = load_config("FastMnistMosaic", "ShannonHamming", overrides=words)
    assert config["nb_steps"] == 1000
    assert config["trainer_kwargs"]["optim_kwargs"]["lr"] == 1.0
    assert config["network_kwargs"]["batch_norm"] is False
    assert config["trainer_kwargs"]["lr_scheduler_class"] == "StepLR"
    assert config["loader_kwargs"]["path"] == "a:b"


@pytest.mark.parametrize(
    "override, words",
    [
        ("nb_step:3", "'nb_steps'"),
        ("trainer_kwargs:shanon_lambda:3", "'shannon_lambda'"),
        ("trainer_kwargs:huber_loss_kwargs:maximum_slop:3", "'maximum_slope'"),
        ("nb_steps:many", "must be int"),
        ("nb_steps:1.5", "must be int"),
        ("trainer_kwargs:optim_kwargs:lr:fast", "must be float"),
        ("network_kwargs:batch_norm:1", "must be bool"),
        ("trainer_kwargs:3", "unknown key"),
        ("trainer_kwargs", "key:sub:value"),
        ("trainer_kwargs:optim_class", "key:sub:value"),
        ("eval_freq:0", "eval_freq"),
        ("network_class:MnistCNN", "MnistMosaicCNN"),
    ],
)
def test_wrong_overrides_are_refused(override, words):
    with pytest.raises(UserError) as error:
        load_config("FastMnistMosaic", "ShannonHamming", overrides=[override])
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "table, words",
    [
        ([["name", "trainer_kwargs:shanon_lambda"], ["a", 1.0]], "'shannon_lambda'"),
        ([["name", "seed"], ["a", 1], ["a", 2]], "'a'"),
        ([["name", "seed"], ["a"]], "row 0"),
        ([["name", "seed"], ["a", "b"]], "must be int"),
        ({"name": 1}, "list of rows"),
        ([["name"]], "list of rows"),
    ],
)
def test_wrong_tables_are_refused(tmp_path, monkeypatch, table, words):
    task = tmp_path / "configs" / "Task"
    (task / "Model").mkdir(parents=True)
    for name in ("taskconfig.json", "ShannonHamming/modelconfig.json"):
        text = (REPOSITORY / "configs" / "FastMnistMosaic" / name).read_text()
        (task / name.replace("ShannonHamming", "Model")).write_text(text)
    (task / "Model" / "table.json").write_text(json.dumps(table))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        load_config("Task", "Model", "table", 0)
    assert words in str(error.value)


@pytest.fixture
def configs(tmp_path, monkeypatch):
    shutil.copytree(REPOSITORY / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "configs" / "FastMnistMosaic"


def add_class(monkeypatch, module, cls):
    """As if a module of the user's own in the folder defined it."""
    monkeypatch.setattr(module, cls.__name__, cls, raising=False)
    monkeypatch.setattr(module, "__all__", [*module.__all__, cls.__name__])


RESNET = {"k": 64, "batch_norm": True, "version": 34}


@pytest.mark.parametrize("order", [1, -1])
def test_an_override_changes_a_class(workspace, order):
    words = ["network_class:MnistResNet", "network_kwargs:version:34"][::order]
    command = ["train.py", "FastMnistMosaic", "ShannonHamming", "-v", "quickstart", "-i", "0", "--show_config", "-a"]
    config = json.loads(workspace.check([*command, *words]))
    assert (config["network_class"], config["network_kwargs"]) == ("MnistResNet", {**RESNET, "k": 40})
    workspace.refuse([*command, *words, "network_kwargs:initial_spread:0.5"], "unknown key", "initial_spread")


def test_overrides_can_be_given_one_by_one(workspace):
    options = ["--show_config", "-a", "nb_steps:7", "-a", "seed:8", "network_kwargs:k:16"]
    config = json.loads(workspace.check(["train.py", "FastMnistMosaic", "HashNet", *options]))
    assert (config["nb_steps"], config["seed"], config["network_kwargs"]["k"]) == (7, 8, 16)


def test_a_row_of_a_table_changes_a_class(configs):
    rows = [["network_kwargs:version", "name", "network_class"], [34, "a", "MnistResNet"], [34, "b", "MnistResnet"]]
    (configs / "HashNet" / "networks.json").write_text(json.dumps(rows))
    config = load_config("FastMnistMosaic", "HashNet", "networks", 0)
    assert (config["network_class"], config["network_kwargs"]) == ("MnistResNet", RESNET)
    with pytest.raises(UserError, match="'MnistResNet'"):
        load_config("FastMnistMosaic", "HashNet", "networks", 1)


def test_a_row_with_the_name_of_another_run_is_refused(configs):
    (configs / "HashNet" / "mine.json").write_text(json.dumps([["name", "seed"], ["main", 1], ["s3210_a0.01", 2]]))
    for row, other in enumerate(["modelconfig", "alpha_ablation"]):
        with pytest.raises(UserError, match=f"mine.json and .*{other}.json both have the name"):
            load_config("FastMnistMosaic", "HashNet", "mine", row)


def test_a_class_drops_keys_of_other_classes_but_no_mistake(configs):
    path = configs / "taskconfig.json"
    task = json.loads(path.read_text())
    for spread, words in (("initial_spread", ""), ("initial_spred", "network_kwargs:initial_spred.*'initial_spread'")):
        path.write_text(json.dumps({**task, "network_kwargs": {**task["network_kwargs"], spread: 0.5}}))
        if words:
            with pytest.raises(UserError, match=words):
                load_config("FastMnistMosaic", "HashNet", overrides=["network_class:MnistResNet"])
        else:
            config = load_config("FastMnistMosaic", "HashNet", overrides=["network_class:MnistResNet"])
            assert config["network_kwargs"] == {**RESNET, "version": 18}
    path.write_text(json.dumps(task))
    model = {"name": "main", "trainer_class": "HashNetTrainer", "trainer_kwargs": {"nb_classes": 3}}
    (configs / "HashNet" / "modelconfig.json").write_text(json.dumps(model))
    with pytest.raises(UserError, match="HashNetTrainer takes no trainer_kwargs:nb_classes"):
        load_config("FastMnistMosaic", "HashNet")


def test_values_are_of_the_types_of_the_new_class(monkeypatch):
    class OtherTrainer(JMLHTrainer):
        BOUNDS = {"nb_classes": (None, None)}

        def __init__(self, network, loader, nb_classes="all", loss_kwargs={"bias": True, "margin": 1.0}, **kwargs):
            pass

    add_class(monkeypatch, trainers, OtherTrainer)
    words = ["trainer_kwargs:nb_classes:12", "trainer_class:OtherTrainer", "trainer_kwargs:loss_kwargs:margin:2"]
    kwargs = load_config("FastMnistMosaic", "JMLH", overrides=words)["trainer_kwargs"]
    assert kwargs["nb_classes"] == "12" and kwargs["loss_kwargs"] == {"bias": True, "margin": 2.0}
    with pytest.raises(UserError, match="nb_classes.*must be str"):
        load_config("FastMnistMosaic", "JMLH", overrides=words[1:])


class ClippedTrainer(HashNetTrainer):
    def __init__(self, network, loader, **kwargs):
        super().__init__(network, loader, clip_value=1.0, **kwargs)


def test_a_trainer_sets_a_value_itself(workspace, monkeypatch):
    add_class(monkeypatch, trainers, ClippedTrainer)
    command = ["train.py", "FastMnistMosaic", "HashNet", *quick("trainer_class:ClippedTrainer")]
    workspace.refuse([*command, "trainer_kwargs:clip_value:3"], "ClippedTrainer sets trainer_kwargs:clip_value itself")
    workspace.check([*command, "nb_steps:1"])
    assert "clip_value" not in workspace.state("HashNet")["config"]["trainer_kwargs"]


class PixelMosaic(Dataset):
    BOUNDS = {"height": (8, None), "margin": (0.0, 1.0)}

    def __init__(self, path, size=None, height=64, margin=None, which="train", device="cpu", seed=None):
        super().__init__(2, (1, 1), size, which, device, seed)


def test_bounds_are_those_of_the_class(monkeypatch):
    add_class(monkeypatch, datasets, PixelMosaic)

    def load(*words):
        overrides = ["loader_class:PixelMosaic", *words]
        return load_config("FastMnistMosaic", "HashNet", overrides=overrides)["loader_kwargs"]

    assert load("loader_kwargs:height:96")["height"] == 96 and load("loader_kwargs:margin:1")["margin"] == 1.0
    for words in ("height:7", "size:0", "margin:1.5", "margin:wide", "margin:NaN"):
        with pytest.raises(UserError, match=f"loader_kwargs:{words.split(':')[0]}' must"):
            load(f"loader_kwargs:{words}")
    monkeypatch.setattr(MnistMosaic, "BOUNDS", {})
    overrides = ["loader_kwargs:height:96"]
    assert load_config("FastMnistMosaic", "HashNet", overrides=overrides)["loader_kwargs"]["height"] == 96


def test_differences_name_the_keys():
    one = load_config("FastMnistMosaic", "ShannonHamming")
    other = load_config("FastMnistMosaic", "ShannonHamming", "lambda_ablation", 0)
    assert differences(one, one) == []
    lines = differences(one, other)
    assert "trainer_kwargs:shannon_lambda 0.01, not 0.005" in lines and len(lines) == 3
