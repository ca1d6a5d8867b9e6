"""Open-ended questions in their published formats, read into one kind of record.

ActivityNet-QA, and the repackaged test sets of Video-ChatGPT and Video-LLaVA: `test_q.json` with {"video_name",
"question", "question_id"} and `test_a.json` with {"answer", "question_id", "type"}. MSVD-QA and MSRVTT-QA:
`test_qa.json` with {"video_id", "question", "answer", "id"}. TGIF-QA: tab-separated, `gif_name`, `question`, `answer`.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.questions.files import lacking, read_bytes, read_list, refuse

#: Endings of tab-separated files; TGIF-QA calls its own `.csv`.
TABLES = (".csv", ".tsv")


@dataclass(frozen=True, slots=True)
class OpenRecord:
    """Question with its answer.

    Attributes:
        question_id: names it within its file.
        video: the video's name, without ending.
        question: as published, often without a question mark.
        answer: the right answer.
        kind: the question's type as a number, where its test set has types; None = it or its file has none.
    """

    question_id: str
    video: str
    question: str
    answer: str
    kind: int | None = None


@dataclass(frozen=True, slots=True)
class OpenFile:
    """Questions of a test set.

    Attributes:
        path: of the questions.
        sha256: of the questions' file, and of the answers' where that is another one.
        records: in the file's order.
    """

    path: Path
    sha256: str
    records: Sequence[OpenRecord]


def read_open_file(
    questions: Path, answers: Path | None, mapping: Path | None, prefix: str, num_types: int = 0
) -> OpenFile:
    """Questions with their answers, checked.

    Args:
        questions: `test_q.json`, `test_qa.json` or TGIF-QA's table.
        answers: `test_a.json`; None = the questions' file has them.
        mapping: MSVD's `youtube_mapping.txt`, lines of "CLIP vidN"; None = videos are called by their number.
        prefix: before a `video_id` in a video's name, "vid" or "video".
        num_types: how many types of questions the test set has; 0 = the field "type" is ignored.

    Raises:
        ValueError: a file is missing or of another format; lists every fault.
    """
    if questions.suffix in TABLES:
        content, sha256 = read_bytes(questions)
        records = _from_table(questions, content.decode("utf-8-sig"), num_types)
        return OpenFile(questions, sha256, records)
    file = read_list(questions)
    if answers is not None:
        answered = read_list(answers)
        sha256 = hashlib.sha256(f"{file.sha256} {answered.sha256}".encode()).hexdigest()
        return OpenFile(questions, sha256, _joined(questions, file.rows, answers, answered.rows, num_types))
    clips = None if mapping is None else clip_names(mapping)
    return OpenFile(questions, file.sha256, _with_answers(questions, file.rows, clips, prefix))


def _joined(
    questions: Path, rows: Sequence[Any], answers: Path, answered: Sequence[Any], num_types: int
) -> list[OpenRecord]:
    """Questions and answers of two files, matched by "question_id"."""
    faults = [f"row {index}: {fault}" for index, row in enumerate(rows)
              for fault in lacking(row, ("video_name", "question", "question_id"))]  # fmt: skip
    refuse(questions, faults + _doubled(row["question_id"] for row in rows if not faults))
    faults = [f"row {index}: {fault}" for index, row in enumerate(answered)
              for fault in lacking(row, ("answer", "question_id"))]  # fmt: skip
    refuse(answers, faults + _doubled(row["question_id"] for row in answered if not faults))
    by_id = {row["question_id"]: row for row in answered}
    asked = {row["question_id"] for row in rows}
    faults = [f"{name} has no answer" for name in (row["question_id"] for row in rows) if name not in by_id]
    faults += [f"{name} is answered, but not asked in {questions.name}" for name in by_id if name not in asked]
    faults += [f"{name} {fault}" for name, row in by_id.items() for fault in _odd_type(row.get("type"), num_types)]
    refuse(answers, faults)
    return [
        OpenRecord(
            row["question_id"],
            row["video_name"],
            row["question"],
            by_id[row["question_id"]]["answer"],
            by_id[row["question_id"]].get("type") if num_types else None,
        )
        for row in rows
    ]


def _odd_type(kind: Any, num_types: int) -> list[str]:
    """What is wrong with a question's type, a number or nothing; nothing where the test set has no types."""
    is_type = isinstance(kind, int) and not isinstance(kind, bool) and 0 <= kind < num_types
    if not num_types or kind is None or is_type:
        return []
    return [f"has the type {kind!r}, not a number from 0 to {num_types - 1}"]


def _with_answers(path: Path, rows: Sequence[Any], clips: Mapping[str, str] | None, prefix: str) -> list[OpenRecord]:
    """Records of MSVD-QA and MSRVTT-QA, whose files hold questions and answers."""
    faults = [f"row {index}: {fault}" for index, row in enumerate(rows)
              for fault in lacking(row, ("question", "answer"))]  # fmt: skip
    if any("question_id" in row and "answer" not in row for row in rows if isinstance(row, Mapping)):
        raise ValueError(f"{path} holds no answers; give data.answers, the file that goes with it (test_a.json)")
    faults += [
        f"row {index}: has no {name} that is a number"
        for index, row in enumerate(rows)
        for name in ("video_id", "id")
        if isinstance(row, Mapping) and not str(row.get(name, "")).isdecimal()
    ]
    refuse(path, faults + _doubled(row["id"] for row in rows if not faults))
    names = [f"{prefix}{row['video_id']}" for row in rows]
    if clips is not None:
        refuse(path, [f"{name} is not in data.mapping" for name in dict.fromkeys(names) if name not in clips])
        names = [clips[name] for name in names]
    return [
        OpenRecord(str(row["id"]), name, row["question"], row["answer"]) for row, name in zip(rows, names, strict=True)
    ]


def clip_names(mapping: Path) -> dict[str, str]:
    """Number of a video ("vid7") -> its clip's name.

    Args:
        mapping: MSVD's `youtube_mapping.txt`.

    Raises:
        ValueError: no such file, or lists the lines that are of another form.
    """
    lines = [line.split() for line in read_bytes(mapping)[0].decode("utf-8-sig").splitlines() if line.strip()]
    refuse(mapping, [f"{' '.join(line)!r} is not CLIP vidN" for line in lines if len(line) != 2])
    return {number: clip for clip, number in lines}


def _from_table(path: Path, content: str, num_types: int) -> list[OpenRecord]:
    """TGIF-QA's rows; their place in the file names them."""
    # Nothing is quoted: a quotation mark at the start of a question is part of it.
    table = csv.DictReader(io.StringIO(content, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    lost = [name for name in ("gif_name", "question", "answer") if name not in (table.fieldnames or ())]
    if lost:
        raise ValueError(f"{path} has no columns {', '.join(lost)}; give TGIF-QA's tab-separated FrameQA file")
    rows = list(table)
    faults = [f"row {index}: {fault}" for index, row in enumerate(rows)
              for fault in lacking(row, ("gif_name", "question", "answer"))]  # fmt: skip
    # As a number where it is one; another text is refused as it is, and an empty cell is no type.
    cells = [row.get("type") or None for row in rows]
    kinds: list[Any] = [int(cell) if cell is not None and cell.isdecimal() else cell for cell in cells]
    faults += [f"row {index}: {fault}" for index, kind in enumerate(kinds) for fault in _odd_type(kind, num_types)]
    refuse(path, faults or ([] if rows else ["there is no question in it"]))
    return [
        OpenRecord(f"{index:06d}", row["gif_name"], row["question"], row["answer"], kind if num_types else None)
        for index, (row, kind) in enumerate(zip(rows, kinds, strict=True))
    ]


def _doubled(names: Iterator[Any]) -> list[str]:
    return [f"{name} occurs {count} times" for name, count in Counter(names).items() if count > 1]
