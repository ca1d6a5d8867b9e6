"""VBench's semantic dimensions from what somebody's networks saw: files of detections, captions and features."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.vbench.networks import identity
from benchmarks.vbench.semantic_rules import (
    TOP_ACTIONS,
    color,
    human_action,
    multiple_objects,
    object_class,
    scene,
    spatial_relationship,
    text_similarity,
)
from datamodules.questions.files import listed
from datamodules.questions.folder_names import Asked
from datamodules.questions.video_folder import FolderVideo

#: An entry of VBench's list: its prompt, and under "auxiliary_info" what each dimension looks for.
Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sight:
    """What a dimension is scored on.

    Attributes:
        form: how a file tells what was seen in a video, in words.
        fits: whether something read from JSON has that form.
        score: of it and the list's entry: a number for each frame, one for the video, or None = it does not count.
    """

    form: str
    fits: Callable[[Any], bool]
    score: Callable[[Any, Entry], Sequence[float] | float | None]


@dataclass(slots=True)
class Observations:
    """What files told.

    Attributes:
        scores: video -> dimension -> {"score"}, and "frame_count" where every frame counts once, as VBench calls them.
        facts: dimension -> the file with its hash, how many videos count, and how many it does not tell of.
    """

    scores: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_observations(
    paths: Sequence[Path],
    videos: Mapping[str, FolderVideo],
    asked: Mapping[str, Asked] | None,
    allow_missing: bool = False,
) -> Observations:
    """Score a folder's videos on what files tell of them: {dimension: {file name: what was seen}}, see `SIGHTS`.

    Args:
        paths: JSON files, each with other dimensions.
        videos: by file name. What a file tells of others is passed over.
        asked: the prompts of VBench's list, which says what is looked for.
        allow_missing: leave out videos that a file does not tell of.

    Raises:
        ValueError: no list; a file that is none; else lists every dimension that is none or told twice, and every video
            that is missing or told in another form.
    """
    if paths and not any(one.entries for one in (asked or {}).values()):
        raise ValueError("observations need VBench's list, which says what is looked for: give data.prompts its JSON")
    found, faults = Observations(), []
    for path in paths:
        for dimension, told in _read(path).items():
            if dimension not in SIGHTS or dimension in found.facts:
                why = "told by two files" if dimension in found.facts else f"none of {', '.join(SIGHTS)}"
                faults.append(f"{path}: {dimension} is {why}")
                continue
            wanted = {key: one for key, one in videos.items() if one.dimensions and dimension in one.dimensions}
            absent = [key for key in wanted if key not in told]
            faults += [] if allow_missing else [f"{path}: {dimension}: {key} is missing" for key in absent]
            counted = 0
            for key, video in wanted.items():
                try:
                    score = _score(dimension, told[key], _entry(dimension, asked, video)) if key in told else None
                except ValueError as error:
                    faults.append(f"{path}: {dimension}: {key}: {error}")
                    continue
                if score is not None:
                    found.scores.setdefault(key, {})[dimension] = score
                    counted += 1
            found.facts[dimension] = {**identity(str(path)), "videos": counted, "left_out": len(absent)}
    if faults:
        raise ValueError(
            f"{len(faults)} faults in what was seen; fix them, or set data.allow_missing: true to leave out missing "
            "videos:" + listed(faults)
        )
    return found


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file; give a JSON file of what networks saw") from error
    except ValueError as error:
        raise ValueError(f"{path}: is not JSON ({error})") from error
    if not isinstance(content, dict) or not all(isinstance(one, dict) for one in content.values()):
        raise ValueError(f"{path}: is not of the form {{dimension: {{file name: what was seen}}}}")
    return content


def _entry(dimension: str, asked: Mapping[str, Asked] | None, video: FolderVideo) -> Entry:
    assert asked is not None, "a video has dimensions where there is a list"
    return next(one for one in asked[video.prompt].entries if dimension in one["dimension"])


def _score(dimension: str, seen: Any, entry: Entry) -> dict[str, Any] | None:
    """As in `Observations.scores`.

    Raises:
        ValueError: another form, or an entry that does not say what is looked for.
    """
    sight = SIGHTS[dimension]
    if not sight.fits(seen):
        raise ValueError(f"is not {sight.form}")
    try:
        score = sight.score(seen, entry)
    except (KeyError, TypeError) as error:
        raise ValueError(f"the list's entry has no auxiliary_info of VBench's form for it ({error!r})") from error
    if isinstance(score, Sequence):
        return {"score": math.fsum(score) / len(score), "frame_count": len(score)}
    return None if score is None else {"score": score}


def _wanted(entry: Entry, dimension: str) -> Any:
    return entry["auxiliary_info"][dimension]


def _relations(seen: Any, entry: Entry) -> list[float]:
    wanted = _wanted(entry, "spatial_relationship")["spatial_relationship"]
    return spatial_relationship(seen, wanted["object_a"], wanted["object_b"], wanted["relationship"])


def _text(one: Any) -> bool:
    return isinstance(one, str)


def _number(one: Any) -> bool:
    return isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one)


def _box(one: Any) -> bool:
    return _each(_number)(one) and len(one) == 4 and one[0] <= one[2] and one[1] <= one[3]


def _each(fits: Callable[[Any], bool], least: int = 0) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) >= least and all(map(fits, value))


def _pair(first: Callable[[Any], bool], second: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) == 2 and first(value[0]) and second(value[1])


def _probabilities(value: Any) -> bool:
    return isinstance(value, dict) and len(value) >= TOP_ACTIONS and all(map(_number, value.values()))


def _features(value: Any) -> bool:
    fits = isinstance(value, dict) and _each(_each(_number), 1)(value.get("rows")) and _each(_number)(value.get("text"))
    return fits and {len(row) for row in value["rows"]} == {len(value["text"])}


def _one_row(value: Any) -> bool:
    return _features(value) and len(value["rows"]) == 1


_CLASSES = "a list of detected classes for each frame"
_ONE_ROW = '{"rows": [features of the video], "text": features of the prompt}'
#: Dimension -> what it is scored on; frames, networks and rules are described in `semantic_rules`.
SIGHTS: Mapping[str, Sight] = {
    "object_class": Sight(
        _CLASSES,
        _each(_each(_text), 1),
        lambda seen, entry: object_class(seen, _wanted(entry, "object_class")["object"]),
    ),
    "multiple_objects": Sight(
        _CLASSES,
        _each(_each(_text), 1),
        lambda seen, entry: multiple_objects(seen, _wanted(entry, "multiple_objects")["object"]),
    ),
    "human_action": Sight(
        "{action: probability} of five actions or more",
        _probabilities,
        lambda seen, entry: human_action(seen, entry["prompt_en"]),
    ),
    "color": Sight(
        "a list of [caption, class] for each frame",
        _each(_each(_pair(_text, _text)), 1),
        lambda seen, entry: color(seen, _wanted(entry, "color")["color"], entry["prompt_en"]),
    ),
    "spatial_relationship": Sight(
        "a list of [class, [x0, y0, x1, y1]] for each frame",
        _each(_each(_pair(_text, _box)), 1),
        _relations,
    ),
    "scene": Sight(
        "a caption for each frame",
        _each(_text, 1),
        lambda seen, entry: scene(seen, _wanted(entry, "scene")["scene"]["scene"]),
    ),
    "appearance_style": Sight(
        '{"rows": [features of a frame, ...], "text": features of the style\'s name}',
        _features,
        lambda seen, entry: text_similarity(seen["rows"], seen["text"]),
    ),
    "temporal_style": Sight(_ONE_ROW, _one_row, lambda seen, entry: text_similarity(seen["rows"], seen["text"])[0]),
    "overall_consistency": Sight(
        _ONE_ROW, _one_row, lambda seen, entry: text_similarity(seen["rows"], seen["text"])[0]
    ),
}
