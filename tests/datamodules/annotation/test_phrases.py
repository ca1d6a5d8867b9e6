"""The objects that texts name."""

from __future__ import annotations

import pytest

from datamodules.annotation.phrases import object_phrases


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("Which way does the red circle move?", ["red circle"]),
        ("No, the purple square moves left before the green triangle.", ["purple square", "green triangle"]),
        ("What is the color of the man's hat?", ["man's hat"]),
        ("What does the person do after he opens the fridge?", ["person", "fridge"]),
        ("Does the rolling ball hit the wall, or the wall the rolling ball?", ["rolling ball", "wall"]),
        ("How many dogs chase three cats?", ["dogs", "cats"]),
        ("She picks up a wooden spoon.", ["wooden spoon"]),
        ("What happens at the end of the video?", []),
        ("Yes.", []),
        ("", []),
    ],
)
def test_objects_in_order_and_each_once(text: str, phrases: list[str]) -> None:
    assert object_phrases(text) == phrases
