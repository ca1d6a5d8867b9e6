"""Files of predictions as published: the annotation's records with "predict" in both halves."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.annotations import HALVES, Annotation, question_key

Predictions = dict[str, list[dict[str, Any]]]


class Reply(NamedTuple):
    """What was answered to one question, and log p(yes) - log p(no) in nats where it was asked for."""

    predict: str
    margin: float | None


def predictions_of(
    annotations: Sequence[Annotation], replies: Mapping[str, Reply], skipped: Mapping[str, str]
) -> Predictions:
    """The published prediction records: the annotation with "predict" in both halves of every pair.

    A pair with a skipped half is left out, and a subset with no pair left.

    Raises:
        RuntimeError: a question was neither answered nor skipped.
        ValueError: no pair is left.
    """
    found: Predictions = {}
    for one in annotations:
        for number, pair in enumerate(one.pairs):
            keys = {half: question_key(one.subset, number, half) for half in HALVES}
            if any(key in skipped for key in keys.values()):
                continue
            lost = [key for key in keys.values() if key not in replies]
            if lost:
                raise RuntimeError(f"no answer came back to {lost[0]}; trainer.limit_test_batches must stay unset")
            record = copy.deepcopy(pair)
            for half, key in keys.items():
                reply = replies[key]
                record[half]["predict"] = reply.predict
                if reply.margin is not None:
                    record[half]["margin"] = reply.margin
            found.setdefault(one.subset, []).append(record)
    if not found:
        raise ValueError("no pair has both of its videos, so there is nothing to score")
    return found


def prediction_file(folder: Path, subset: str, name: str) -> Path:
    """Where the predictions of a subset are, for answers called `name`."""
    return folder / f"{subset}_{name}.json"


def recorded_replies(folder: Path, name: str, annotations: Sequence[Annotation]) -> dict[str, Reply]:
    """The recorded answers to the annotations' questions by key, found by video and question, in whatever order.

    Raises:
        ValueError: a subset has no file of predictions.
    """
    found: dict[str, Reply] = {}
    for one in annotations:
        path = prediction_file(folder, one.subset, name)
        if not path.is_file():
            raise ValueError(f"the recorded predictions {path} do not exist; files are called SUBSET_NAME.json")
        halves = [(half, pair[half]) for pair in json.loads(path.read_bytes()) for half in HALVES]
        answers = {(half, said["video"], said["question"]): said["predict"] for half, said in halves}
        for number, pair in enumerate(one.pairs):
            for half in HALVES:
                answer = answers.get((half, pair[half]["video"], pair[half]["question"]))
                if answer is not None:
                    found[question_key(one.subset, number, half)] = Reply(answer, None)
    return found
