"""Files of what networks saw: scored by each dimension's rule, with every fault of a file named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.vbench.observations import KINDS, Observations, read_observations
from benchmarks.vbench.rules import DIMENSIONS
from datamodules.questions.folder_names import Asked
from datamodules.questions.video_folder import FolderVideo
from datamodules.video.facts import VideoFacts

RELATION = {"object_a": "dog", "object_b": "cat", "relationship": "on the left of"}
#: Dimension -> (prompt, what the list says, what was seen, the score).
CASES: dict[str, tuple[str, Any, Any, dict[str, Any] | None]] = {
    "object_class": ("a dog", {"object": "dog"}, [["dog", "cat"], [], ["dogs"], ["dog"]],
                     {"score": 0.5, "frame_count": 4}),
    "multiple_objects": ("a dog and a cat", {"object": "dog and cat"}, [["dog", "cat"], ["dog"]],
                         {"score": 0.5, "frame_count": 2}),
    "human_action": ("A person is skiing", None,
                     {"skiing": 0.9, "yoga": 0.1, "tai chi": 0.2, "dancing": 0, "sailing": 0.3}, {"score": True}),
    "color": ("a red car", {"color": "red"}, [[["a red car", "car"]], [["a blue car", "car"]], []], {"score": 0.5}),
    "spatial_relationship": ("a dog on the left of a cat", {"spatial_relationship": RELATION},
                             [[["dog", [0, 0, 9, 9]], ["cat", [20, 0, 29, 9]]], []], {"score": 0.5, "frame_count": 2}),
    "scene": ("alley", {"scene": {"scene": "alley"}}, ["a dark alley", "a street"], {"score": 0.5, "frame_count": 2}),
    "appearance_style": ("a bird, oil painting", {"appearance_style": "oil painting"},
                         {"rows": [[3, 4], [0, 2]], "text": [1, 0]}, {"score": pytest.approx(0.3), "frame_count": 2}),
    "temporal_style": ("a bird, zoom in", None, {"rows": [[3, 4]], "text": [1, 0]}, {"score": pytest.approx(0.6)}),
    "overall_consistency": ("a bird", None, {"rows": [[3, 4]], "text": [0, 1]}, {"score": pytest.approx(0.8)}),
}  # fmt: skip


def read(folder: Path, *contents: dict[str, Any], allow_missing: bool = False) -> Observations:
    """Of files with one video, "PROMPT-0.mp4", of each dimension's prompt."""
    paths = [folder / f"{number}.json" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_text(json.dumps(content))
    videos, asked = {}, {}
    for dimension, (prompt, auxiliary, _, _) in CASES.items():
        entry = {"prompt_en": prompt, "dimension": [dimension, "aesthetic_quality"]}
        more = {} if auxiliary is None else {"auxiliary_info": {dimension: auxiliary}}
        name, dimensions = f"{prompt}-0.mp4", frozenset(entry["dimension"])
        videos[name] = FolderVideo(name, folder / name, prompt, 0, VideoFacts(9, 8.0, 64, 48), "", dimensions)
        asked[prompt] = Asked(dimensions, ({"prompt_en": prompt, "dimension": ["aesthetic_quality"]}, entry | more))
    return read_observations(paths, videos, asked, allow_missing)


def seen(dimension: str, what: Any) -> dict[str, Any]:
    return {dimension: {f"{CASES[dimension][0]}-0.mp4": what}}


def test_all_semantic_dimensions_have_a_rule() -> None:
    assert (
        list(KINDS) == list(CASES) == [name for name, dimension in DIMENSIONS.items() if dimension.group == "semantic"]
    )


@pytest.mark.parametrize("dimension", CASES)
def test_a_video_is_scored_by_the_rule_of_its_dimension(dimension: str, tmp_path: Path) -> None:
    prompt, _, what, score = CASES[dimension]
    observations = read(tmp_path, seen(dimension, what))
    assert observations.scores == {f"{prompt}-0.mp4": {dimension: score}}
    assert observations.facts[dimension]["videos"] == 1
    assert len(observations.facts[dimension]["sha256"]) == 64


@pytest.mark.parametrize(
    ("dimension", "what"),
    [
        ("object_class", ["dog", "dog"]),  # letters of a text would be looked at as classes
        ("multiple_objects", []),
        ("human_action", {"skiing": 0.9}),
        ("color", [["a red car", "car"]]),
        ("spatial_relationship", [[["dog", [0, 0, 9]]]]),
        ("scene", "a dark alley"),
        ("appearance_style", {"rows": [[1, 2], [3]], "text": [1, 2]}),
        ("temporal_style", {"rows": [[1, 2], [3, 4]], "text": [1, 2]}),
        ("overall_consistency", {"rows": [[1, float("nan")]], "text": [1, 2]}),
    ],
)
def test_another_form_is_named(dimension: str, what: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the text follows
        read(tmp_path, seen(dimension, what))
    assert f"{CASES[dimension][0]}-0.mp4: is not {KINDS[dimension].form}" in str(caught.value)


def test_all_faults_are_listed(tmp_path: Path) -> None:
    content = seen("scene", ["an alley"]) | {"color": {"other-0.mp4": []}, "scenery": {}} | seen("object_class", 5)
    with pytest.raises(ValueError, match="4 faults") as caught:
        read(tmp_path, content, seen("scene", ["an alley"]))
    for fault in ("color: a red car-0.mp4 is missing", "scenery is none of object_class",
                  "object_class: a dog-0.mp4: is not", "scene is in two files"):  # fmt: skip
        assert fault in str(caught.value)
    observations = read(tmp_path, {"color": {}}, allow_missing=True)
    assert (observations.scores, observations.facts["color"]["left_out"]) == ({}, 1)


def test_a_video_without_the_object_in_a_color_does_not_count(tmp_path: Path) -> None:
    observations = read(tmp_path, seen("color", [[["a shiny car", "car"]]]))
    assert (observations.scores, observations.facts["color"]["videos"]) == ({}, 0)


def test_files_need_vbenchs_list(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"give data\.prompts its JSON"):
        read_observations([tmp_path / "seen.json"], {}, {"a dog": Asked()})
    assert read_observations([], {}, None) == Observations()
    asked = {"a dog": Asked(frozenset(), ({"prompt_en": "a dog", "dimension": []},))}
    path = tmp_path / "seen.json"
    with pytest.raises(ValueError, match="no such file"):
        read_observations([path], {}, asked)
    for content, why in (("{", "is not JSON"), ('{"scene": []}', "is not of the form")):
        path.write_text(content)
        with pytest.raises(ValueError, match=why):
            read_observations([path], {}, asked)


def test_a_list_that_does_not_say_what_is_looked_for_is_named(tmp_path: Path) -> None:
    entry = {"prompt_en": "alley", "dimension": ["scene"]}
    asked = {"alley": Asked(frozenset({"scene"}), (entry,))}
    video = FolderVideo("alley-0.mp4", tmp_path, "alley", 0, VideoFacts(9, 8.0, 64, 48), "", frozenset({"scene"}))
    path = tmp_path / "seen.json"
    path.write_text(json.dumps({"scene": {"alley-0.mp4": ["an alley"]}}))
    with pytest.raises(ValueError, match=r"alley-0\.mp4: the list's entry has no auxiliary_info"):
        read_observations([path], {"alley-0.mp4": video}, asked)
