"""Tables of pairs of videos, and what public data sets have in place of one.

VideoDPO has lists that point into each other, VideoFeedback 2 single videos with scores, Rapidata's results a vote a
file name. All become rows of `pair_layouts`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from datamodules.prepare.conversations import UnreadableRowError, shown
from datamodules.prepare.pair_layouts import FEEDBACK_AXES
from datamodules.prepare.pair_verdicts import number_of, score_verdict
from datamodules.prepare.rows import SourceRow, key_part
from datamodules.prepare.tables import read_table
from datamodules.user_files import user_file

Row = Mapping[str, Any]

#: Columns of VideoFeedback 2 that say where a video is, the one with its folder first.
_ADDRESSES = ("video_url", "video_name")


def read_pair_table(path: Path) -> list[SourceRow]:
    """The rows of a table of pairs; of VideoDPO's folders, YAML and ``pair.json``, those of their pairs.

    Raises:
        ValueError: it cannot be read, or holds single videos without pairs (VideoFeedback 1).
    """
    if (folders := videodpo_folders(path)) is not None:
        return [row for folder in folders for row in _videodpo_rows(folder)]
    rows = read_table(path)
    first = rows[0].data
    if "text prompt" in first and "video link" in first:
        raise ValueError(
            f"{path}: VideoFeedback 1 rates single videos, no two of one prompt, so it has no pairs; VideoFeedback 2 "
            "has several videos of a prompt"
        )
    for row in rows:
        if isinstance(ratios := row.data.get("summedUserScoresRatios"), dict) and "context" in row.data:
            row.data = _rapidata_result(row.data, ratios)
    return rows


def _rapidata_result(row: Row, ratios: Mapping[str, Any]) -> dict[str, Any]:
    """A row of Rapidata's results file under the names of its data sets; further fields stay."""
    read = ("context", "summedUserScoresRatios")
    renamed = {name: value for name, value in row.items() if name not in read} | {"prompt": row["context"]}
    for number, (name, ratio) in enumerate(ratios.items(), 1):
        renamed |= {f"file_name{number}": name, f"weighted_results{number}_Preference": ratio}
    return renamed


def videodpo_folders(path: Path) -> list[Path] | None:
    """The folders with ``metadata.json`` and ``pair.json`` that a path means; None = it means none."""
    if path.is_dir():
        return [path]
    if path.name == "pair.json":
        return [path.parent]
    if path.suffix.lower() not in (".yaml", ".yml"):
        return None
    try:
        content = yaml.safe_load(user_file(path).read_text(encoding="utf-8"))
        return [path.parent / str(name) for name in content["META"]]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: is no YAML with META, a list of VideoDPO's folders ({error})") from error


def _videodpo_rows(folder: Path) -> Iterator[SourceRow]:
    lists = []
    for name in ("metadata.json", "pair.json"):
        try:
            content = json.loads(user_file(folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{folder / name}: cannot be read ({error}); VideoDPO's folders have one") from error
        if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
            raise ValueError(f"{folder / name}: is not a list of objects")
        lists.append(content)
    videos, pairs = lists
    for number, pair in enumerate(pairs, 1):
        row = SourceRow(number, "", {}, name=f"{key_part(folder.name)}-{number:06d}")
        for side, name in (("first", "video1"), ("second", "video2")):
            place = pair.get(name)
            # A bool is an int to Python, and a negative number would count from the end of the list.
            if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < len(videos):
                row.refuse(name, f"is {shown(place)}, no place in metadata.json, which has {len(videos)} videos")
            else:
                row.data[side] = videos[place].get("basic", {}).get("clip_path")
        caption = pair.get("frame_caption")
        row.data["prompt"] = caption[0] if isinstance(caption, list) and caption else caption
        row.data["winner"] = "video1"  # always: the lists say so by their order
        more = {name: value for name, value in pair.items() if name not in ("video1", "video2", "frame_caption")}
        row.data |= more
        yield row


def score_pairs(
    path: Path, rows: Sequence[SourceRow], axis: str | None, margin: float, most: int | None
) -> list[SourceRow]:
    """Pairs of the videos of one prompt whose scores differ, from rows that rate single videos.

    Args:
        path: of the table, by which the pairs are named.
        rows: of VideoFeedback 2.
        axis: the score's column.
        margin: scores that are less apart give no pair.
        most: pairs of one prompt, those with the largest gaps; None = all.

    Raises:
        ValueError: the axis is not given, or no column.
    """
    if axis not in FEEDBACK_AXES:
        raise ValueError(f"choose an axis: --axis {' or '.join(FEEDBACK_AXES)}")
    by_prompt: dict[str, list[tuple[SourceRow, float]]] = defaultdict(list)
    pairs = []
    for row in rows:
        try:
            by_prompt[str(row.data["prompt"])].append((row, number_of(axis, row.data.get(axis))))
        # Faulty rows stay among the pairs, so that whoever writes them lists their faults.
        except KeyError:
            row.refuse("prompt", "is missing")
            pairs.append(row)
        except UnreadableRowError as error:
            row.refuse(error.field, error.why)
            pairs.append(row)
    for prompt, videos in by_prompt.items():
        decided = [
            (first, second)
            for first, second in combinations(videos, 2)
            if score_verdict(first[1], second[1], margin) != 0
        ]
        # A stable sort: pairs of equal gaps stay in the file's order, so `most` takes the same ones everywhere.
        decided.sort(key=lambda pair: -abs(pair[0][1] - pair[1][1]))
        for (first, score), (second, other) in decided[:most]:
            name = f"{key_part(path.stem)}-{first.number}-{second.number}"
            data = {"first": _address(first.data), "second": _address(second.data), "prompt": prompt}
            scores = {"first_score": score, "second_score": other}
            # What else a video has, so that it is counted as dropped.
            more = {
                column: value for column, value in first.data.items() if column not in ("prompt", axis, *_ADDRESSES)
            }
            pairs.append(SourceRow(first.number, "", {**more, **data, **scores}, name=name))
    return pairs


def _address(row: Row) -> Any:
    return next((row[column] for column in _ADDRESSES if row.get(column)), None)
