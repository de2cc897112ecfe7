"""The examples in docstrings show what happens."""

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "equihash.datasets.dataset",
        "equihash.losses.hamming",
        "equihash.search.inverted_index",
        "equihash.search.probing",
    ],
)
def test_examples(module):
    result = doctest.testmod(import_module(module))
    assert result.attempted and not result.failed
