"""report.html: what is in it, and how a real browser shows it (Debian: apt-get install chromium chromium-driver)."""

import csv
import json
import os
import shutil
from html.parser import HTMLParser

import pytest
from conftest import quick
from selenium import webdriver

from equihash.evaluation.metrics import METRICS, Answers, Metric

pytestmark = pytest.mark.pictures

FOLDER = "data/experiments/FastMnistMosaic/HashNet/main/current/test_<b>DB"
EVALUATE = ["evaluate_binary_equihash.py", "FastMnistMosaic", "<b>DB", "HashNet", "-d", "cpu"]
CHARTS = ["lookups.png", "database_sizes.png", "set_sizes.png", "hamming_distances.png"]


@pytest.fixture(scope="module")
def page(shared_workspace):
    """The page of a small database whose name would be a tag, were it not escaped."""
    shared_workspace.check(["train.py", "FastMnistMosaic", "HashNet", *quick()])
    labels = "generate_labels.py FastMnistMosaic <b>DB -b10000 -d2500 -p300 -n300 -t200 -m 2 2"
    shared_workspace.check(labels)
    shared_workspace.check("encode.py FastMnistMosaic <b>DB HashNet -d cpu --build_index")
    output = shared_workspace.check([*EVALUATE, "--nb_lookups", "1", "8"])
    assert all(name in output for name in ("report.html", "gallery.png", *CHARTS))
    return shared_workspace.folder / FOLDER / "report.html"


class Elements(HTMLParser):
    """The elements of a page: [(tag, attributes)], and its text."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def test_the_page_needs_nothing_else(page):
    found = Elements(page.read_text())
    images = [attributes for tag, attributes in found.elements if tag == "img"]
    assert len(images) == len(CHARTS) + 3  # the gallery, the training curve, the instances
    assert all(image["src"].startswith("data:image/png;base64,") and len(image["alt"]) > 20 for image in images)
    tags = {tag for tag, _ in found.elements}
    assert {"main", "table", "th", "details", "h1"} <= tags and not tags & {"script", "b", "iframe"}
    links = [each[name] for _, each in found.elements for name in ("href", "src") if name in each]
    assert all(link.startswith("data:") for link in links)
    assert "HashNet main on <b>DB" in found.text and "8 lookups" in found.text and '"nb_steps": 4' in found.text
    results = json.loads((page.parent / "results.json").read_text())
    assert results["provenance"]["fingerprints"]["weights"] in found.text


def test_what_is_no_more_is_taken_away(page, shared_workspace, tmp_path):
    folder = shutil.copytree(page.parent, tmp_path / "copy")
    try:
        shared_workspace.check([*EVALUATE, "--no_queries"])
        assert [path.name for path in page.parent.glob("*.png")] == ["hamming_distances.png"]
        found = Elements(page.read_text())
        assert sum(tag == "img" for tag, _ in found.elements) == 3
    finally:
        shutil.copytree(folder, page.parent, dirs_exist_ok=True)


def test_a_metric_of_ones_own_is_one_entry(page, shared_workspace, monkeypatch, tmp_path):
    """It is in results.json, in the table, in the page, and in what show_results.py prints."""

    def compute(answers):
        return 2 * answers.relevant_retrieved.sum() / (answers.retrieved.sum() + answers.relevant.sum()), (0.125, 0.875)

    f1 = Metric("f1_score", "F1", "harmonic mean of precision and recall", Answers, compute)
    monkeypatch.setitem(METRICS, f1.key, f1)
    folder = shutil.copytree(page.parent, tmp_path / "copy")
    try:
        table = shared_workspace.check([*EVALUATE, "--nb_lookups", "1", "8"])
        results = json.loads((page.parent / "results.json").read_text())
        values = [results["lookups"][number]["f1_score"] for number in ("1", "8")]
        assert results["f1_score"] == values[0] > 0 and results["intervals"]["f1_score"] == [0.125, 0.875]
        assert "F1 f1 score: harmonic mean of precision and recall" in table
        found = Elements(page.read_text())
        for number, value in zip(("1 lookup ", "8 lookups "), values):
            row = next(line.split() for line in table.splitlines() if f"main, {number}" in line)
            assert row[-1] == f1.format(value) and f1.format(value) in found.text
        assert table.count("[.125 .875]") == found.text.count("[.125 .875]") == 2
        assert "f1 score" in found.text
        show = ["show_results.py", "FastMnistMosaic", "<b>DB", "HashNet"]
        lines = shared_workspace.check(show).splitlines()
        assert lines[0].split()[-1] == "F1" and lines[2].split()[-1] == f1.format(values[0])
        header, row, *_ = csv.reader(shared_workspace.check([*show, "--format", "csv"]).splitlines())
        assert header[-2:] == ["f1_score", "f1_score_std"] and float(row[-2]) == values[0]
    finally:
        shutil.copytree(folder, page.parent, dirs_exist_ok=True)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    paths = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in paths:
        give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        give_up("needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = paths[0]
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for word in (
        "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", "disable-dev-shm-usage",
        f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):  # fmt: skip
        options.add_argument(f"--{word}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(paths[1]))
    yield driver
    driver.quit()


def show(browser, page, width, scheme):
    """Show a page as a screen of so many pixels, "light" or "dark", does."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 800}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get(page.as_uri())
    browser.execute_script("document.querySelectorAll('details').forEach(each => each.open = true)")


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_without_flaws(browser, page, width, scheme):
    show(browser, page, width, scheme)
    run = browser.execute_script
    assert run("return innerWidth") == width
    assert run("return document.documentElement.scrollWidth") <= width
    widths = run("return [...document.images].map(image => image.complete && image.naturalWidth)")
    assert len(widths) == 7 and all(widths)
    # what sticks out of the page must do so in a box that scrolls
    outside = """return [...document.body.querySelectorAll('*')].filter(
        each => !each.closest('.scroll') && each.getBoundingClientRect().right > innerWidth).length"""
    assert run(outside) == 0
    colours = run("return ['backgroundColor', 'color'].map(name => getComputedStyle(document.body)[name])")
    page_is_dark, text_is_dark = (int(colour.split("(")[1].split(",")[0]) < 128 for colour in colours)
    assert (page_is_dark, text_is_dark) == (scheme == "dark", scheme == "light")
    assert browser.get_log("browser") == []


def test_a_flaw_would_be_seen(browser, page, tmp_path):
    """A broken picture, one of the network, and text too wide."""
    html = page.read_text()
    wide = f'<p style="white-space: nowrap">{"wide " * 200}</p>'
    broken = tmp_path / "broken.html"
    broken.write_text(html.replace("</main>", f'<img src="http://127.0.0.1/x.png" alt="">{wide}</main>'))
    show(browser, broken, 400, "light")
    assert browser.execute_script("return document.documentElement.scrollWidth") > 400
    assert browser.execute_script("return document.images[7].naturalWidth") == 0
    assert "Content Security Policy" in browser.get_log("browser")[0]["message"]
