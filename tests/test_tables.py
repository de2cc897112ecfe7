"""Whole variant tables: train.py -i all, and show_results.py."""

import csv
import io
import json
import shutil
import statistics

import pytest
from conftest import REPOSITORY, assert_same, quick

from equihash.evaluation.results import is_evaluated
from equihash.experiment import DatabaseFiles, Experiment
from equihash.files import locked
from equihash.report.ablation import calls_for_log

TABLE = [
    ["name", "seed", "trainer_kwargs:alpha"],
    ["s1_a0.1", 1, 0.1],
    ["s2_a0.1", 2, 0.1],
    ["s1_a0.2", 1, 0.2],
    ["s2_a0.2", 2, 0.2],
]
HOME = "data/experiments/FastMnistMosaic/HashNet"
SHOW = "show_results.py FastMnistMosaic TINY"


def own_table(workspace, table, model="HashNet"):
    """Give the workspace configurations of its own, with the variant table `tiny` of a model."""
    configs = workspace.folder / "configs"
    if configs.is_symlink():
        configs.unlink()
        shutil.copytree(REPOSITORY / "configs", configs)
    (configs / "FastMnistMosaic" / model / "tiny.json").write_text(json.dumps(table))


def train(rows, *overrides):
    return ["train.py", "FastMnistMosaic", "HashNet", "-v", "tiny", "-i", rows, *quick("nb_steps:2", *overrides)]


def test_a_whole_table(workspace):
    """Locked, diverging and finished rows; evaluated where that is asked for; the same as row by row."""
    own_table(workspace, [*TABLE[:2], ["s2_a0.1", 2, float("nan")], TABLE[3]])
    workspace.check(train(2))
    alone = workspace.state("HashNet", "s1_a0.2")
    shutil.rmtree(workspace.folder / HOME / "s1_a0.2")
    with workspace.inside(), locked(f"{HOME}/s1_a0.1"):
        code, output = workspace.run(train("all"))
    assert code == 2 and "skipped, as other processes are at them: s1_a0.1" in output
    assert output.strip().splitlines()[-1] == "error: 1 of 3 rows diverged: s2_a0.1"
    assert "s2_a0.1: loss is nan at step 1" in output
    assert_same(workspace.state("HashNet", "s1_a0.2"), alone)

    own_table(workspace, [TABLE[0], TABLE[1], TABLE[3]])
    workspace.check("generate_labels.py FastMnistMosaic TINY -b10000 -d600 -p50 -n50 -t50 -m 2 2")
    command = [*train("all"), "--database_name", "TINY"]
    output = workspace.check(command)
    assert output.count("PRR perfect") == 2 and "done already" not in output
    state = workspace.folder / HOME / "s1_a0.2" / "current" / "state.pth"
    before = state.stat().st_mtime_ns
    assert workspace.check(command).count("done already") == 2
    assert state.stat().st_mtime_ns == before
    workspace.check("generate_labels.py FastMnistMosaic TINY -b10000 -d600 -p50 -n50 -t50 -m 2 2 -s 3 -f")
    with workspace.inside():
        assert not is_evaluated(DatabaseFiles(Experiment("FastMnistMosaic", "HashNet", "tiny", 0), "TINY"))
    own_table(workspace, [TABLE[0], TABLE[1], TABLE[4]])
    code, output = workspace.run(train("all", "trainer_kwargs:optim_kwargs:lr:0.1"))
    assert code == 2 and "0.1, not 0.001" in output
    assert output.strip().splitlines()[-1] == "error: 1 of 2 rows were trained with another configuration: s1_a0.1"
    assert workspace.state("HashNet", "s2_a0.2")["trainer"]["step"] == 2
    workspace.refuse(["train.py", "FastMnistMosaic", "HashNet", "-i", "all"], "name the table with -v")


def put(workspace, name, prr, icr, lookups=(1, 64), model="HashNet", **more):
    """Write a results.json."""
    fixed = {"false_positive_rate": 0.1, "recall": 0.5}
    rows = {
        str(n): {"perfect_retrieval_rate": prr * (1 + (n > 1)), "irrelevant_per_query": n - 1, **fixed} for n in lookups
    }
    results = {"task": "FastMnistMosaic", "model": model, "name": name, **rows["1"], "lookups": rows}
    results |= {"irrelevant_collision_rate": icr, "relevant_collision_rate": None, **more}
    path = (
        workspace.folder
        / "data"
        / "experiments"
        / "FastMnistMosaic"
        / model
        / name
        / "current"
        / "test_TINY"
        / "results.json"
    )
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(results))


@pytest.fixture
def collected(workspace):
    own_table(workspace, TABLE)
    put(workspace, "s1_a0.1", 0.2, 1e-9)
    put(workspace, "s2_a0.1", 0.3, 3e-9)
    put(workspace, "s1_a0.2", 0.4, 5e-9, provenance={"fingerprints": {"step": 7, "labels": "one"}})
    return workspace


@pytest.mark.pictures
def test_show_results(collected):
    output = collected.check(SHOW)
    lines = [line for line in output.splitlines() if line.split()[1:2] in (["0.1"], ["0.2"])]
    assert lines[0].split()[:5] == ["alpha", "0.1", "1", "2", ".250±.071"], output
    assert lines[1].split()[:5] == ["alpha", "0.2", "1", "1", ".400*"]
    assert "2.0e-9*±1.4e-9" in lines[0] and "5.0e-9" in lines[1] and "5.0e-9*" not in lines[1]
    assert "missing: HashNet: python train.py FastMnistMosaic HashNet --database_name TINY\n" in output
    row = "HashNet tiny, 1 of 4 rows (3): python train.py FastMnistMosaic HashNet -v tiny -i 3 --database_name TINY"
    assert row in output and "alpha_ablation" not in output
    assert "warning: HashNet s1_a0.2 was evaluated at step 7 of 100,000" in output
    picture = collected.folder / HOME / "tiny_TINY.png"
    assert f"drawn: {HOME}/tiny_TINY.png" in output and picture.read_bytes().startswith(b"\x89PNG")
    put(collected, "main", 0.1, 1e-3, provenance={"fingerprints": {"step": 100_000, "labels": "two"}})
    output = collected.check(f"{SHOW} HashNet")
    assert "  main" in output.splitlines()[2] and "missing: HashNet: " not in output
    assert "not of the same labels" in output
    assert "main" not in collected.check(f"{SHOW} -v tiny").replace("s1", "").split("missing")[0]


@pytest.mark.pictures
def test_all_models_in_one_picture(collected):
    """One line a model; seeds of one configuration are named by what their names share."""
    assert "comparison" not in collected.check(SHOW)
    own_table(collected, [TABLE[0][:2], ["best_s1", 1], ["best_s2", 2]], "DCH")
    for name, rate in (("best_s1", 0.3), ("best_s2", 0.5)):
        put(collected, name, rate, 0, model="DCH")
    output = collected.check(f"{SHOW} -v tiny")
    assert [line.split()[:4] for line in output.splitlines() if line.startswith("  best")] == [
        ["best", "1", "2", ".400*±.141"]
    ]
    path = "data/experiments/FastMnistMosaic/comparison_tiny_TINY.png"
    assert f"drawn: {path}" in output and (collected.folder / path).read_bytes().startswith(b"\x89PNG")


def test_the_other_formats(collected):
    rows = list(csv.DictReader(io.StringIO(collected.check(f"{SHOW} -v tiny --format csv").split("drawn")[0])))
    assert len(rows) == 4
    first = rows[1]
    assert (first["variant"], first["value"], first["nb_lookups"], first["nb_seeds"]) == ("tiny", "0.1", "64", "2")
    assert float(first["perfect_retrieval_rate"]) == pytest.approx(0.5)
    assert float(first["perfect_retrieval_rate_std"]) == pytest.approx(statistics.stdev([0.4, 0.6]))
    assert first["irrelevant_collision_rate"] == "" and rows[0]["relevant_collision_rate"] == ""
    table = collected.check(f"{SHOW} -v tiny --format markdown")
    assert "MAP" not in table and "mean_average_precision" not in first
    assert "| HashNet | tiny | alpha 0.2 | 64 | 1 | **.800** |" in table and ".250 ± .071" in table


def test_mean_average_precision_is_shown_where_it_was_measured(workspace):
    """A column of its own; empty for the lines that lack it in one of their seeds, and for more lookups."""
    own_table(workspace, TABLE[:4])
    put(workspace, "s1_a0.1", 0.2, 1e-9, mean_average_precision=0.5)
    put(workspace, "s2_a0.1", 0.3, 3e-9, mean_average_precision=0.625)
    put(workspace, "s1_a0.2", 0.4, 5e-9)
    output = workspace.check(f"{SHOW} -v tiny --format csv").split("drawn")[0]
    values = [row["mean_average_precision"] for row in csv.DictReader(io.StringIO(output))]
    assert values == ["0.5625", "", "", ""]
    head, _, *lines = workspace.check(f"{SHOW} -v tiny").splitlines()
    assert head.split()[-1] == "MAP" and [line.split()[-1] for line in lines[:4]] == [".562±.088", "-", "-", "-"]


def test_a_table_without_queries(workspace):
    own_table(workspace, TABLE)
    for name, value in (("s1_a0.1", 1e-9), ("s1_a0.2", 2e-9)):
        put(workspace, name, 0, value)
        path = workspace.folder / HOME / name / "current" / "test_TINY" / "results.json"
        path.write_text(json.dumps({"task": "FastMnistMosaic", "name": name, "irrelevant_collision_rate": value}))
    output = workspace.check(f"{SHOW} -v tiny")
    assert "2.0e-9" in output and "drawn" not in output


def test_trials_on_the_validation_split(workspace):
    """What is chosen on the validation split never touches the test split."""
    own_table(workspace, [TABLE[0], TABLE[1], TABLE[3]])
    workspace.check("generate_labels.py FastMnistMosaic TINY -b10000 -d600 -p50 -n50 -t50 -m 2 2")
    output = workspace.check([*train(0), "--database_name", "TINY", "-w", "valid", "--precision", "bfloat16"])
    assert "s1_a0.1" in output
    assert not list((workspace.folder / "data").rglob("test_TINY"))
    (results,) = (workspace.folder / "data").rglob("results.json")
    assert results.parent.name == "valid_TINY" and json.loads(results.read_text())["which"] == "valid"
    output = workspace.check(f"{SHOW} -v tiny -w valid")
    assert "s1_a0.1" in output
    remedy = "train.py FastMnistMosaic HashNet -v tiny -i 1 --database_name TINY --which valid --precision bfloat16"
    assert f"missing: HashNet tiny, 1 of 2 rows (1): python {remedy}" in output
    workspace.refuse(f"{SHOW} -v tiny", "no results of TINY")
    (workspace.folder / HOME / "s1_a0.1" / "current" / "state.pth").write_text("damaged")
    assert remedy.removesuffix(" --precision bfloat16") in workspace.check(f"{SHOW} -v tiny -w valid")


def test_nothing_to_show(workspace):
    workspace.refuse(f"{SHOW} HashNet", "TINY.hdf5 does not exist", "python generate_labels.py FastMnistMosaic TINY")
    workspace.check("generate_labels.py FastMnistMosaic TINY -b10000 -d600 -p50 -n50 -t50 -m 2 2")
    command = "python train.py FastMnistMosaic HashNet --database_name TINY"
    workspace.refuse(f"{SHOW} HashNet", "no results of TINY", command)
    workspace.refuse(f"{SHOW} HashNett", "unknown model", "'HashNet'")
    workspace.refuse(f"{SHOW} -v alpha_ablatio", "unknown variant", "'alpha_ablation'")
    put(workspace, "main", 0.1, 1e-3)
    (workspace.folder / HOME / "main" / "current" / "test_TINY" / "results.json").write_text("{")
    workspace.refuse(SHOW, "results.json is not valid JSON")


def test_a_log_axis_where_the_values_call_for_it():
    assert calls_for_log([100, 1000, 10_000]) and calls_for_log([0.001, 0.01, 0.1])
    assert calls_for_log([0.005, 0.006, 0.007, 0.008, 0.009, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06])
    assert not calls_for_log([i / 100 for i in range(1, 11)]) and not calls_for_log([0, 1, 10])
