"""The pages: every link leads somewhere, every command in them is one that the scripts take."""

import re
import runpy
import shlex
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

import pytest
from conftest import REPOSITORY

PAGES = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = [page for page in [*PAGES, *sorted((REPOSITORY / "docs").glob("*.md"))] if page.is_file()]
FENCED = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def anchors(page):
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    names = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", name).replace(" ", "-") for name in names}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page):
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", page.read_text())):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not link.startswith("https://") and not (
            target.exists() and (not anchor or anchor in anchors(target)) and target.is_relative_to(REPOSITORY)
        ):
            broken.append(link)
    assert not broken


def test_pages_that_the_code_and_the_notebook_name():
    sources = [
        *REPOSITORY.glob("*.py"),
        *(REPOSITORY / "equihash").rglob("*.py"),
        *REPOSITORY.glob("notebooks/*.ipynb"),
    ]
    named = {name for source in sources for name in re.findall(r"docs/[\w-]+\.md", source.read_text())}
    assert named and not [name for name in named if not (REPOSITORY / name).is_file()]


class Parsed(BaseException):
    """The arguments of a script are right."""


def test_all_tables_are_listed():
    """Of FastMnistMosaic in the table of docs/configuration.md, of the other tasks somewhere beside it."""
    page = (REPOSITORY / "docs" / "configuration.md").read_text()
    rows = re.findall(r"^\| (\w+|all others) \| ([\w, ]+) \|$", page, re.M)
    listed = {model: set(tables.split(", ")) for model, tables in rows}
    for path in (REPOSITORY / "configs").glob("*/*/*.json"):
        task, model = path.parts[-3:-1]
        if path.name != "modelconfig.json":
            where = listed.get(model, listed["all others"]) if task == "FastMnistMosaic" else page
            assert path.stem in where, path
    named = {(model, table) for model in listed.keys() - {"all others"} for table in listed[model]}
    assert all((REPOSITORY / "configs/FastMnistMosaic" / model / f"{table}.json").is_file() for model, table in named)


def commands():
    """The words of the commands in fenced blocks that run make or a script of this repository."""
    for page in PAGES:
        for block in FENCED.findall(page.read_text()):
            for line in block.replace("\\\n", " ").splitlines():
                if re.match(r"make |(?:\w+=\S+ )*(?:python|torchrun .*) [\w/]+\.py\b", line):
                    words = shlex.split(line, comments=True)
                    yield pytest.param(words, id=f"{page.name}: {' '.join(words)}")


@pytest.mark.parametrize("words", list(commands()))
def test_commands(words, monkeypatch):
    """The script exists, and its parser takes the arguments; nothing is run."""
    if words[0] == "make":
        targets = subprocess.run(["make", "-n", *words[1:]], cwd=REPOSITORY, capture_output=True, text=True)
        assert targets.returncode == 0, targets.stderr
        return
    start = next(index for index, word in enumerate(words) if word.endswith(".py"))
    parse = ArgumentParser.parse_args

    def parse_only(self):
        parse(self)
        raise Parsed

    monkeypatch.setattr(ArgumentParser, "parse_args", parse_only)
    monkeypatch.setattr(sys, "argv", words[start:])
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.syspath_prepend(Path(words[start]).parent)  # as python does
    monkeypatch.delitem(sys.modules, "stages", raising=False)  # the benchmarks have a module of this name, too
    if words[start] == "setup.py":
        assert Path("setup.py").is_file()
        return
    with pytest.raises(Parsed):
        runpy.run_path(words[start], run_name="__main__")
