"""Pairs whose truth is known."""

from __future__ import annotations

import pytest

from tests.support.judged_pairs import write_judged_pairs


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Index file of pairs of real videos of which the brighter one is better."""
    return write_judged_pairs(tmp_path_factory.mktemp("pairs"))
