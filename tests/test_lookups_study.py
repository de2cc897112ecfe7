"""Predicting the perfect retrieval rate at other sizes, and study_lookups.py."""

import json
import shutil

import numpy as np
import pytest
from conftest import REPOSITORY

from equihash.studies.prediction import Prediction, fit, from_mean_rates, measured

SIZES = (1000, 10_000, 100_000, 1_000_000)


def counted(complete_rate, rates, queries=200_000, seed=0):
    """`measured` rows of simulated queries: of each its irrelevant collision rate, drawn from `rates(stream, n)`."""
    stream = np.random.default_rng(seed)
    rows, complete = {}, stream.random(queries) < complete_rate
    for size in SIZES:
        irrelevant = stream.poisson(size * rates(stream, queries))
        rows[size] = {
            "nb_queries": queries,
            "complete_rate": complete.mean(),
            "perfect_retrieval_rate": (complete & (irrelevant == 0)).mean(),
            "irrelevant_pair_rate": irrelevant.mean() / size,
        }
    return rows


def test_queries_of_like_rates():
    """With one rate for all queries both predictions are C exp(-N I)."""
    rows = counted(0.8, lambda stream, n: np.full(n, 2e-7))
    expected = 0.8 * np.exp(-2e-7 * 1e7)
    assert from_mean_rates(rows, 1e7) == pytest.approx(expected, rel=0.1)
    assert fit(rows)(1e7) == pytest.approx(expected, abs=0.05)


def test_queries_of_different_rates():
    """The fit finds the spread that the mean rates know nothing of, and reaches decades beyond the sizes."""
    mean, deviation = np.log(3e-9), 2.0
    rows = counted(0.7, lambda stream, n: stream.lognormal(mean, deviation, n))
    prediction = fit(rows)
    assert prediction.mean == pytest.approx(mean, abs=0.3) and prediction.deviation == pytest.approx(2, abs=0.2)
    rates = np.random.default_rng(1).lognormal(mean, deviation, 10**6)
    for size in (1e7, 1e8, 1e9):
        assert prediction(size) == pytest.approx(0.7 * np.exp(-size * rates).mean(), abs=0.04)
    assert from_mean_rates(rows, 1e8) < 0.1 < prediction(1e8) - 0.2


def test_no_irrelevant_item_at_all():
    rows = counted(0.5, lambda stream, n: np.zeros(n))
    assert fit(rows)(1e7) == pytest.approx(0.5, abs=0.01)
    assert from_mean_rates(rows, 1e11) == rows[max(rows)]["complete_rate"]


def test_prediction_of_many_sizes():
    alike = Prediction(0.9, np.log(1e-8), 0.0)
    np.testing.assert_allclose(alike([0, 10**8, 10**9]), 0.9 * np.exp([0, -1, -10]))
    assert np.shape(alike(1)) == ()
    # the median query finds one item among e^-m
    assert Prediction(1.0, np.log(1e-8), 15.0)(1e8) == pytest.approx(0.5, abs=0.03)


def simulated_results(name, database="SIM"):
    """What study_lookups.py reads of a results.json."""
    sizes, lookups = {}, {}
    for number in (1, 16):
        rows = counted(0.4 + 0.02 * number, lambda stream, n: number * stream.lognormal(-17, 2, n), 5000)  # noqa: B023
        for size, scores in rows.items():
            part = sizes.setdefault(str(size), {"nb_positive_queries": scores.pop("nb_queries"), "lookups": {}})
            part["lookups"][str(number)] = {"with_relevant": scores}
        lookups[str(number)] = {"recall": scores["complete_rate"], "irrelevant_per_query": 0.1 * number}
    results = {"name": name, "database": database, "database_size": max(SIZES), "lookups": lookups}
    return {**results, "database_sizes": sizes}


def put(workspace, results):
    folder = workspace.experiments / "FastMnistMosaic" / "HashNet" / results["name"] / "current" / "test_SIM"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results))


@pytest.mark.pictures
def test_study(workspace):
    results = simulated_results("main")
    put(workspace, results)
    output = workspace.check("study_lookups.py FastMnistMosaic SIM")
    lines = output.splitlines()
    assert lines[0].split()[:2] == ["lookups", "recall"] and max(map(len, lines)) <= 120
    assert "1M from 100K" in lines[0] and "100B" in lines[0]
    assert lines[1] == "HashNet main" and lines[3].split()[0] == "16"
    # 16 lookups are complete more often, and collide more: best in the small ones, and not in the largest
    cells = [line.split() for line in lines[2:4]]
    assert cells[1][3].endswith("*") and cells[0][-1].endswith("*")
    assert "from up to 10K items: off by" in output and "from the mean rates alone: off by" in output
    prediction = fit(measured(results, 16))
    assert f"{prediction(1e9):.3f}".lstrip("0") == cells[1][-2].rstrip("*")
    picture = workspace.experiments / "FastMnistMosaic" / "lookups_all_SIM.png"
    assert picture.read_bytes().startswith(b"\x89PNG")

    lines = workspace.check("study_lookups.py FastMnistMosaic SIM HashNet --format markdown").splitlines()
    cells = [line.split("|") for line in lines[2:4]]
    assert cells[1][5].strip().startswith("**") and cells[0][-2].strip().endswith("**")
    table = workspace.check("study_lookups.py FastMnistMosaic SIM HashNet --nb_lookups 16 --format markdown")
    assert table.splitlines()[1].startswith("| --- | ---: |") and table.splitlines()[2].startswith(
        "| HashNet main | 16 |"
    )
    assert "**" not in table


def test_refusals(workspace):
    workspace.refuse("study_lookups.py FastMnistMosaic SIM", "no results of SIM", "--nb_lookups 1 4 16 64")
    results = simulated_results("main")
    put(workspace, results)
    workspace.refuse(
        "study_lookups.py FastMnistMosaic SIM --nb_lookups 4", "HashNet main", "4 lookups", "--nb_lookups 4"
    )
    other = {**results, "name": "other", "provenance": {"fingerprints": {"labels": "other"}}}
    put(workspace, {**results, "name": "one"})
    with workspace.inside():
        table = [["name", "seed"], ["one", 1], ["other", 2]]
        configs = workspace.folder / "configs"
        configs.unlink()
        shutil.copytree(REPOSITORY / "configs", configs)
        (configs / "FastMnistMosaic" / "HashNet" / "two.json").write_text(json.dumps(table))
    put(workspace, other)
    workspace.refuse("study_lookups.py FastMnistMosaic SIM -v two", "2 different SIM", "labels")
    for size in SIZES[:2]:
        del results["database_sizes"][str(size)]
    put(workspace, results)
    workspace.refuse("study_lookups.py FastMnistMosaic SIM", "HashNet main", "20,000 items", "evaluate it again")
    results = simulated_results("main")
    results["database_sizes"][str(results["database_size"])]["nb_positive_queries"] = 0
    put(workspace, results)
    workspace.refuse("study_lookups.py FastMnistMosaic SIM", "HashNet main", "positive queries", "evaluate it again")
