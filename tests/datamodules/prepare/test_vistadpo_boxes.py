"""Boxes as VistaDPO's released file writes them."""

from __future__ import annotations

import pytest

from datamodules.prepare.vistadpo import parse_bbox
from datamodules.vista.samples import Box


@pytest.mark.parametrize("text", ["'x': 1.5, 'y': 2, 'w': 3, 'h': 4e0", "{'h': 4, 'w': 3, 'y': 2, 'x': 1.5}"])
def test_boxes_are_read_from_strings(text: str) -> None:
    assert parse_bbox(text) == Box(1.5, 2, 3, 4)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1, 2, 3, 4",
        "'x': 1, 'y': 2, 'w': 3",
        "'x': 1, 'y': 2, 'w': 3, 'h': 4, 'z': 5",
        "'x': 1, 'y': 2, 'w': 3, 'h': NaN",
        "'x': 1, 'y': 2, 'w': 3, 'h': 1e999",
        "'x': 1, 'y': 2, 'w': 3, 'h': " + "9" * 400,
        "'x': 1, 'y': 2, 'w': 3, 'h': true",
        "'x': 1, 'y': 2, 'w': 3, 'h': '4'",
        "'x': 1, 'y': 2, 'w': 3, 'h': __import__('os').getpid()",
        "'x': " + "[" * 100_000,
    ],
)
def test_strings_that_are_no_boxes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not four numbers"):
        parse_bbox(text)
