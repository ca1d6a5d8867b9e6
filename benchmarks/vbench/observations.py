"""VBench's semantic dimensions from observations: files of detections, captions and features by any networks."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
from benchmarks.vbench.weights import identity
from datamodules.questions.files import listed
from datamodules.questions.folder_names import Asked
from datamodules.questions.video_folder import FolderVideo
from datamodules.user_files import user_file

#: An entry of VBench's list: its prompt, and under "auxiliary_info" what each dimension looks for.
Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ObservationKind:
    """Kind of observation that a dimension is scored on.

    Attributes:
        form: its form in JSON, in words, for messages.
        fits: whether something read from JSON has that form.
        score: of it and the list's entry: a number for each frame, one for the video, or None = it does not count.
    """

    form: str
    fits: Callable[[Any], bool]
    score: Callable[[Any, Entry], Sequence[float] | float | None]


@dataclass(slots=True)
class Observations:
    """Scores of a folder's videos from files of observations.

    Attributes:
        scores: video -> dimension -> {"score"}, and "frame_count" where every frame counts once, as VBench calls them.
        facts: dimension -> the file with its hash, how many videos count, and how many are not in it.
    """

    scores: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_observations(
    paths: Sequence[Path],
    videos: Mapping[str, FolderVideo],
    asked: Mapping[str, Asked] | None,
    allow_missing: bool = False,
) -> Observations:
    """Score a folder's videos on files of observations, {dimension: {file name: observation}}, see `KINDS`.

    Args:
        paths: JSON files, each with other dimensions.
        videos: by file name. Observations of other videos are ignored.
        asked: the prompts of VBench's list, which says what is looked for.
        allow_missing: leave out videos that a file lacks.

    Raises:
        ValueError: no list; a file of another form; else lists every dimension that is unknown or in two files, and
            every video that is missing or whose observation has another form.
    """
    if paths and not any(prompt.entries for prompt in (asked or {}).values()):
        raise ValueError("observations need VBench's list, which says what is looked for: give data.prompts its JSON")
    observations, faults = Observations(), []
    for path in paths:
        for dimension, observed in _read(path).items():
            # Two files for one dimension: it would be unclear which scores count.
            if dimension not in KINDS or dimension in observations.facts:
                fault = "in two files" if dimension in observations.facts else f"none of {', '.join(KINDS)}"
                faults.append(f"{path}: {dimension} is {fault}")
                continue
            scored = {key: video for key, video in videos.items() if dimension in (video.dimensions or ())}
            absent = [key for key in scored if key not in observed]
            if not allow_missing:
                faults += [f"{path}: {dimension}: {key} is missing" for key in absent]
            counted, misfits = _scores(
                dimension, {key: scored[key] for key in scored if key in observed}, observed, asked
            )
            faults += [f"{path}: {dimension}: {misfit}" for misfit in misfits]
            for key, score in counted.items():
                observations.scores.setdefault(key, {})[dimension] = score
            observations.facts[dimension] = {**identity(str(path)), "videos": len(counted), "left_out": len(absent)}
    if faults:
        raise ValueError(
            f"{len(faults)} faults in the observations; fix them, or set data.allow_missing: true to leave out missing "
            "videos:" + listed(faults)
        )
    return observations


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        content = json.loads(user_file(path).read_bytes())
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file; give a JSON file of observations") from error
    except ValueError as error:
        raise ValueError(f"{path}: is not JSON ({error})") from error
    if not isinstance(content, dict) or not all(isinstance(observed, dict) for observed in content.values()):
        raise ValueError(f"{path}: is not of the form {{dimension: {{file name: observation}}}}")
    return content


def _scores(
    dimension: str, videos: Mapping[str, FolderVideo], observed: Mapping[str, Any], asked: Mapping[str, Asked] | None
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The scores of the videos that count, by file name, and a line for each observation that does not fit."""
    scores, misfits = {}, []
    for key, video in videos.items():
        try:
            score = _score(dimension, observed[key], (asked or {})[video.prompt].entries)
        except ValueError as error:
            misfits.append(f"{key}: {error}")
            continue
        if score is not None:
            scores[key] = score
    return scores, misfits


def _score(dimension: str, observation: Any, entries: Sequence[Entry]) -> dict[str, Any] | None:
    """A video's score as in `Observations.scores`, by the list's entries of its prompt; None = it does not count.

    Raises:
        ValueError: another form, or an entry that does not say what is looked for.
    """
    kind = KINDS[dimension]
    if not kind.fits(observation):
        raise ValueError(f"is not {kind.form}")
    # A prompt may have several entries, each for other dimensions.
    entry = next(entry for entry in entries if dimension in entry["dimension"])
    try:
        score = kind.score(observation, entry)
    except (KeyError, TypeError) as error:
        raise ValueError(f"the list's entry has no auxiliary_info of VBench's form for it ({error!r})") from error
    if isinstance(score, Sequence):  # one for each frame
        return {"score": math.fsum(score) / len(score), "frame_count": len(score)}
    return None if score is None else {"score": score}


def _target(entry: Entry, dimension: str) -> Any:
    """What the list says is looked for; the KeyError of an entry without it becomes a ValueError in `_score`."""
    return entry["auxiliary_info"][dimension]


def _relations(observation: Any, entry: Entry) -> list[float]:
    target = _target(entry, "spatial_relationship")["spatial_relationship"]
    return spatial_relationship(observation, target["object_a"], target["object_b"], target["relationship"])


# Predicates of JSON values, of which the forms below are built.


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _box(value: Any) -> bool:
    return _each(_number)(value) and len(value) == 4 and value[0] <= value[2] and value[1] <= value[3]


def _each(fits: Callable[[Any], bool], least: int = 0) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) >= least and all(map(fits, value))


def _pair(first: Callable[[Any], bool], second: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) == 2 and first(value[0]) and second(value[1])


def _probabilities(value: Any) -> bool:
    return isinstance(value, dict) and len(value) >= TOP_ACTIONS and all(map(_number, value.values()))


def _features(value: Any) -> bool:
    # Every row as long as the text's features: the cosine needs it.
    fits = isinstance(value, dict) and _each(_each(_number), 1)(value.get("rows")) and _each(_number)(value.get("text"))
    return fits and {len(row) for row in value["rows"]} == {len(value["text"])}


def _one_row(value: Any) -> bool:
    return _features(value) and len(value["rows"]) == 1


_CLASSES = "a list of detected classes for each frame"
_ONE_ROW = '{"rows": [features of the video], "text": features of the prompt}'
#: Dimension -> kind of observation that it is scored on; frames, networks and rules are described in `semantic_rules`.
KINDS: Mapping[str, ObservationKind] = {
    "object_class": ObservationKind(
        _CLASSES,
        _each(_each(_text), 1),
        lambda seen, entry: object_class(seen, _target(entry, "object_class")["object"]),
    ),
    "multiple_objects": ObservationKind(
        _CLASSES,
        _each(_each(_text), 1),
        lambda seen, entry: multiple_objects(seen, _target(entry, "multiple_objects")["object"]),
    ),
    "human_action": ObservationKind(
        "{action: probability} of five actions or more",
        _probabilities,
        lambda seen, entry: human_action(seen, entry["prompt_en"]),
    ),
    "color": ObservationKind(
        "a list of [caption, class] for each frame",
        _each(_each(_pair(_text, _text)), 1),
        lambda seen, entry: color(seen, _target(entry, "color")["color"], entry["prompt_en"]),
    ),
    "spatial_relationship": ObservationKind(
        "a list of [class, [x0, y0, x1, y1]] for each frame",
        _each(_each(_pair(_text, _box)), 1),
        _relations,
    ),
    "scene": ObservationKind(
        "a caption for each frame",
        _each(_text, 1),
        lambda seen, entry: scene(seen, _target(entry, "scene")["scene"]["scene"]),
    ),
    "appearance_style": ObservationKind(
        '{"rows": [features of a frame, ...], "text": features of the style\'s name}',
        _features,
        lambda seen, entry: text_similarity(seen["rows"], seen["text"]),
    ),
    "temporal_style": ObservationKind(
        _ONE_ROW, _one_row, lambda seen, entry: text_similarity(seen["rows"], seen["text"])[0]
    ),
    "overall_consistency": ObservationKind(
        _ONE_ROW, _one_row, lambda seen, entry: text_similarity(seen["rows"], seen["text"])[0]
    ),
}
