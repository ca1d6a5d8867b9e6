"""Reading of a recorded prediction, one for all benchmarks: which values in a file are an answer's text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from datamodules.questions.files import listed


class NotText(str):
    """Recorded prediction that is no text, as JSON; kept until the faults of all files are listed together."""

    __slots__ = ()


def prediction_text(value: Any) -> str:
    """A recorded prediction as the text that the published scorers read.

    A text is itself. A finite number is its digits: an open question may be answered by 3, and tables are saved so.
    True, false, lists, objects and NaN (which pandas writes for an empty cell) are no model's replies.

    Raises:
        ValueError: the value is neither a text nor a finite number.
    """
    if isinstance(value, str) and not isinstance(value, NotText):
        return value
    # A bool is an int to Python: True would count as the answer 1.
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return str(value)
    # A `NotText` is JSON already; dumped again it would be quoted twice.
    written = str(value) if isinstance(value, NotText) else json.dumps(value, default=str)
    raise ValueError(f"the prediction {written[:60]} is no text; write the model's reply, or null for none")


def require_texts(predictions: Mapping[str, Any]) -> None:
    """Raise a ValueError that lists the predictions that are no text; `predictions` is place -> prediction."""
    faults = []
    for place, value in predictions.items():
        try:
            prediction_text(value)
        except ValueError as error:
            faults.append(f"{place}: {error}")
    if faults:
        raise ValueError(f"{len(faults)} predictions cannot be scored:{listed(faults)}")


def recorded_text(record: Mapping[str, Any], *names: str) -> str | None:
    """The prediction in the first of these fields that a record has; None where there is none, or it is null.

    A value that is no text is returned as `NotText`, which `RecordedFiles.matched` lists.
    """
    value = next((record[name] for name in names if name in record), None)
    if value is None:
        return None
    try:
        return prediction_text(value)
    except ValueError:
        return NotText(json.dumps(value, default=str))
