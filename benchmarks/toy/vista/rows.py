"""Rows of the study of VistaDPO beside its core table: ablations and open questions, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from benchmarks.toy.vista.methods import Method

#: The terms of VistaDPO, by their names in `VistaWeights`, with the paper's weights.
TERMS: Mapping[str, float] = {"response": 1.0, "video": 1.0, "clip": 0.4, "object": 0.2, "token": 0.1}
#: Numbers of frames that a policy is shown of a video of 32.
FRAMES = (4, 8, 16, 32)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one question.

    Attributes:
        title: the heading of their table.
        methods: name -> method; those without `rate_of` are tuned by the grid.
    """

    title: str
    methods: Mapping[str, Method]


def weights_of(kept: Mapping[str, float]) -> dict[str, object]:
    """Flags that leave every other term out."""
    return {f"--model.weights.{name}": kept.get(name, 0.0) for name in TERMS}


def _terms() -> dict[str, Method]:
    """Each term alone, and each left out."""
    alone = {
        f"only-{name}": Method(f"{name} term alone", options=weights_of({name: weight}))
        for name, weight in TERMS.items()
    }
    without = {
        f"no-{name}": Method(
            f"without the {name} term", options=weights_of({other: TERMS[other] for other in TERMS if other != name})
        )
        for name in TERMS
    }
    return alone | without


def _negatives() -> dict[str, Method]:
    """The paper's comparison of negatives: one level's is another, those of the other levels stay."""
    others = {
        "video": {"Shuffle": "shuffled", "OtherVideo": "another video", "Noise": "noise"},
        "clip": {"OtherVideoSegment": "a segment of another video", "Reverse": "reversed", "Shuffle": "shuffled"},
        "object": {"RoiMask": "masked", "RoiBlur": "blurred", "RandomCrop": "cropped at random"},
    }
    return {
        f"{level}-{name.lower()}": Method(
            f"{level} negative: {words}", options={f"--data.{level}_negative": name}, rate_of="vista"
        )
        for level, names in others.items()
        for name, words in names.items()
    }


def _errors() -> dict[str, Method]:
    """Errors of annotation, one kind at a time."""
    kinds = {
        "iou-0.7": "boxes at IoU 0.7",
        "iou-0.4": "boxes at IoU 0.4",
        "shift-0.5": "events shifted by half",
        "wrong-0.2": "20% of answers exchanged",
    }
    vista = {f"vista-{name}": Method(f"VistaDPO, {words}", data=name, rate_of="vista") for name, words in kinds.items()}
    # Boxes and events are nothing to plain DPO.
    return vista | {
        "dpo-wrong-0.2": Method("plain DPO, 20% of answers exchanged", "dpo", data="wrong-0.2", rate_of="dpo")
    }


def _weights() -> dict[str, Method]:
    """Weights that depend on the sample, against fixed ones, measured on fast and on slow videos."""
    kinds = {
        "fixed": ("vista", "fixed weights"),
        "motion": ("vista_motion", "weights by motion"),
        "difficulty": ("vista_difficulty", "weights by difficulty"),
    }
    methods = {}
    for name, (config, words) in kinds.items():
        methods[f"{name}-fast"] = Method(f"{words}, fast videos", config, data="speeds", test="fast", rate_of="vista")
        methods[f"{name}-slow"] = Method(
            f"{words}, slow videos", config, data="speeds", test="slow", rate_of="vista", fit_of=f"{name}-fast"
        )
    bases = {f"base-{test}": Method(f"the base model, {test} videos", "", test=test) for test in ("fast", "slow")}
    return bases | methods


def _frames() -> dict[str, Method]:
    """The methods at other numbers of frames of longer videos; each number has a base model of its own."""
    methods = {}
    for number in FRAMES:
        options = {"test": "long", "num_frames": number, "base": f"frames-{number}"}
        methods[f"base-{number}"] = Method(f"the base model, {number} frames", "", **options)  # type: ignore[arg-type]
        for config, words in (("dpo", "plain DPO"), ("vista", "VistaDPO")):
            methods[f"{config}-{number}"] = Method(
                f"{words}, {number} frames",
                config,
                data="long",
                rate_of=config,
                **options,  # type: ignore[arg-type]
            )
    return methods


def _facts_first() -> dict[str, Method]:
    """Answers that begin with the verdict, as everywhere else, against answers that state facts and end with it."""
    kinds = {"base": ("the base model", ""), "dpo": ("plain DPO", "dpo"), "vista": ("VistaDPO", "vista")}
    methods = {}
    for name, (title, config) in kinds.items():
        method = Method(f"{title}, verdict first", config, rate_of=config, verdicts=True)
        methods[f"{name}-verdict-first"] = method
        methods[f"{name}-facts-first"] = replace(
            method, title=f"{title}, facts first", data="facts-first", test="facts-first", base="facts-first"
        )
    return methods


#: Name of `--rows` -> the rows.
ROWS: Mapping[str, Rows] = {
    "terms": Rows("Each term alone, and each left out", _terms()),
    "negatives": Rows("Other negatives", _negatives()),
    "errors": Rows("Errors of annotation", _errors()),
    "weights": Rows("Weights that depend on the sample", _weights()),
    "frames": Rows("Longer videos, more frames", _frames()),
    "facts-first": Rows("Answers that state facts before the verdict", _facts_first()),
}
#: Name -> flags of `prepare toy` for the rows' data.
ROW_DATA: Mapping[str, Mapping[str, object]] = {
    "iou-0.7": {"--errors.box_iou": 0.7},
    "iou-0.4": {"--errors.box_iou": 0.4},
    "shift-0.5": {"--errors.event_shift": 0.5},
    "wrong-0.2": {"--errors.wrong": 0.2},
    "speeds": {"--slow": 0.5},
    "long": {"--event_frames": 16},
    "facts-first": {"--facts_first": "true"},
}
#: Likewise of videos that measure.
ROW_TESTS: Mapping[str, Mapping[str, object]] = {
    "fast": {},
    "slow": {"--slow": 1.0},
    "long": {"--event_frames": 16},
    "facts-first": {"--facts_first": "true"},
}
#: Likewise of the videos on which other base models are tuned.
ROW_BASES: Mapping[str, Mapping[str, object]] = {
    **{f"frames-{number}": {"--event_frames": 16} for number in FRAMES},
    "facts-first": {"--facts_first": "true"},
}
