"""Files of yes-or-no questions about videos, in VideoHallucer's published format: read, checked and found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from datamodules.questions.files import read_list, refuse

Half = Literal["basic", "hallucination"]
HALVES: tuple[Half, Half] = ("basic", "hallucination")

#: Published annotation name -> the name under which the published results list it. Other names stay as they are.
RESULT_NAMES: Mapping[str, str] = {
    "object_relation": "obj_rel",
    "temporal": "temporal",
    "semantic_detail": "semantic",
    "external_factual": "fact",
    "external_nonfactual": "nonfact",
    "interaction": "interaction",
    "fact_detect": "factdet",
}
#: The `temporal` subset before 24 exact duplicates were removed from it; the papers' numbers were made with this one.
TEMPORAL_200 = "temporal_200_pre_dedup"


@dataclass(frozen=True, slots=True)
class Annotation:
    """Annotation file of a subset.

    Attributes:
        subset: the name under which results list it.
        path: where it was read.
        sha256: of the file's bytes, so that results say which version they belong to.
        pairs: the published records, `{"basic": {...}, "hallucination": {...}, "type": ...}`.
    """

    subset: str
    path: Path
    sha256: str
    pairs: Sequence[dict[str, Any]]


def question_key(subset: str, pair: int, half: Half) -> str:
    """The name of one question within a benchmark run."""
    return f"{subset}/{pair:06d}/{half}"


def read_annotation(path: Path) -> Annotation:
    """One published annotation file, checked.

    Raises:
        ValueError: not a JSON list of pairs; every fault is listed with its row and field.
    """
    file = read_list(path, "question pairs")
    refuse(path, [fault for row, pair in enumerate(file.rows) for fault in _faults(row, pair)])
    stem = "temporal" if path.stem == TEMPORAL_200 else path.stem
    return Annotation(RESULT_NAMES.get(stem, stem), path, file.sha256, file.rows)


def _faults(row: int, pair: Any) -> list[str]:
    if not isinstance(pair, dict):
        return [f"row {row}: is not an object with a basic and a hallucination half"]
    faults = []
    for half in HALVES:
        question = pair.get(half)
        if not isinstance(question, dict):
            faults.append(f"row {row}: {half} is missing")
            continue
        faults += [
            f"row {row}: {half}.{name} is missing or empty"
            for name in ("video", "question", "answer")
            if not isinstance(question.get(name), str) or not question[name].strip()
        ]
    return faults


def find_annotations(folder: Path, subsets: Sequence[str] | None, temporal: Literal[176, 200] | None) -> list[Path]:
    """The annotation files of a folder: `NAME.json`, or `NAME/NAME.json` as published.

    Args:
        folder: where they are.
        subsets: published names ("object_relation"); None = all, `temporal` once.
        temporal: which version of `temporal`; None = the file of that plain name, whatever it holds.

    Raises:
        ValueError: the folder or a subset's file is not there.
    """
    if not folder.is_dir():
        raise ValueError(f"the folder of questions {folder} does not exist; give the folder that holds the JSON files")
    # A plain file comes last and so before one in a folder of its name.
    files = {path.stem: path for path in [*sorted(folder.glob("*/*.json")), *sorted(folder.glob("*.json"))]
             if path.parent == folder or path.parent.name == path.stem}  # fmt: skip
    # Never a subset by itself: it is another version of `temporal`.
    longer = files.pop(TEMPORAL_200, None)
    if temporal == 200 and longer is not None:
        files["temporal"] = longer
    names = sorted(files) if subsets is None else list(subsets)
    missing = [name for name in names if name not in files]
    if missing or not names:
        have = ", ".join(sorted(files)) or "none"
        raise ValueError(f"no questions for {missing or 'any subset'} in {folder}, which has: {have}")
    return [files[name] for name in names]


def find_video(folder: Path, annotation: Annotation, name: str) -> Path | None:
    """A video by its published name: in the folder itself or where the published layout keeps it."""
    published = annotation.path.stem.replace(TEMPORAL_200, "temporal")
    for candidate in (folder / name, folder / published / "videos" / name, folder / published / name):
        if candidate.is_file():
            return candidate
    return None
