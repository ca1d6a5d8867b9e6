"""The CSV of labels: what is on disk after each answer, after a correction, after a kill, and beside other programs."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.labelling.label_file import ChangedFileError, LabelFile
from datamodules.prepare.judgements import LABEL_COLUMNS, Judgement, Place, read_judgements
from tests.support.kills import killed

HEADER = ",".join(LABEL_COLUMNS) + "\n"
TIME = "2026-11-29T10:00:00.000+00:00"


def judgement(segment: int | None, label: int, annotator: str = "ann", repeat: int = 0) -> Judgement:
    return Judgement(0, Place("p00", segment), label, annotator, "second", TIME, repeat)


def test_each_answer_is_a_line_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "labels.csv"
    file = LabelFile(path)
    assert path.read_text() == HEADER
    file.write(judgement(0, 1))
    assert path.read_text() == HEADER + f"p00,0,first,ann,second,{TIME},,0\n"
    file.write(judgement(None, -1, 'Ann "the eye", B.', 0))
    file.write(judgement(0, 0, repeat=1))
    assert path.read_text().splitlines()[2:] == [
        f'p00,whole,second,"Ann ""the eye"", B.",second,{TIME},,0',
        f"p00,0,tie,ann,second,{TIME},,1",
    ]
    again = LabelFile(path)
    assert again.repaired == ""
    assert again.answers("ann").keys() == {(Place("p00", 0), 0), (Place("p00", 0), 1)}
    assert [row.label for row in again.judgements] == [1, -1, 0]


def test_an_answer_is_synced_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = LabelFile(tmp_path / "labels.csv")
    synced: list[str] = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(file.path.read_text()), sync(handle)))
    file.write(judgement(0, 1))
    assert synced == [HEADER + f"p00,0,first,ann,second,{TIME},,0\n"]


def test_the_same_answer_twice_is_one_line_and_another_one_replaces_it(tmp_path: Path) -> None:
    file = LabelFile(tmp_path / "labels.csv")
    for label in (1, 1, -1, 0):
        file.write(judgement(0, label))
        file.write(judgement(1, 1))
    assert [(row.place.segment, row.label) for row in read_judgements(file.path)] == [(0, 0), (1, 1)]
    before = file.path.read_bytes()
    file.write(replace(judgement(0, 0), time="2026-11-30T10:00:00.000+00:00"))
    assert file.path.read_bytes() == before, "a request that is sent again keeps the time of the answer"
    assert list(tmp_path.iterdir()) == [file.path]


@pytest.mark.parametrize("cut", range(1, 46))
def test_a_line_that_was_cut_short_is_removed(tmp_path: Path, cut: int) -> None:
    """Wherever it is cut: what is left could be taken for a label without an annotator, or of another one."""
    path = tmp_path / "labels.csv"
    line = f"p00,1,first,ann,first,{TIME},,0\n"
    whole = HEADER + f"p00,0,tie,ann,first,{TIME},,0\n"
    path.write_text(whole + line[:-cut])
    file = LabelFile(path)
    if cut == 1:  # only the newline is missing
        assert path.read_text() == whole + line
        assert file.repaired == ""
    else:
        assert path.read_text() == whole
        assert (file.repaired == "") == (cut >= len(line))
    file.write(judgement(2, 1))
    assert [row.place.segment for row in read_judgements(path)] == ([0, 1, 2] if cut == 1 else [0, 2])


def test_lines_of_other_programs_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("\ufeffsegment,key,label\r\n0,p00,1\r\nwhole,p00,-1")
    file = LabelFile(path)
    file.write(judgement(1, 0))
    lines = ["p00,0,first,,,,,0", "p00,whole,second,,,,,0", f"p00,1,tie,ann,second,{TIME},,0"]
    assert path.read_text() == HEADER + "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize(
    "content", ["my notes", "my notes\nof today\n", "key,segment,label\np00,0,better\n", "a,b\n1,2"]
)
def test_a_file_of_another_kind_is_refused_and_stays(tmp_path: Path, content: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"labels\.csv: (fix these rows|the first line must name)"):
        LabelFile(path)
    assert path.read_text() == content
    assert list(tmp_path.iterdir()) == [path]


def test_what_another_program_wrote_meanwhile_is_not_lost(tmp_path: Path) -> None:
    file = LabelFile(tmp_path / "labels.csv")
    file.write(judgement(0, 1))
    edited = file.path.read_text() + "p01,0,tie,bob,,,,0\n"
    file.path.write_text(edited)
    for label in (judgement(1, 1), judgement(0, -1)):  # a new line, and a file written again
        with pytest.raises(ChangedFileError, match="was changed by another program; nothing was written"):
            file.write(label)
    assert file.path.read_text() == edited


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = LabelFile(tmp_path / "labels.csv")
    file.write(judgement(0, 1))
    before = file.path.read_text()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            file.write(judgement(1, 1))
    assert file.path.read_text() == before
    file.write(judgement(1, -1))
    assert [row.label for row in read_judgements(file.path)] == [1, -1]


def _answer_and_correct(path: Path) -> None:
    file = LabelFile(path)
    file.write(judgement(0, 1))
    file.write(judgement(1, 1))
    file.write(judgement(0, -1))


@pytest.mark.slow
def test_killed_at_any_moment_every_answer_is_there_once(tmp_path: Path) -> None:
    counts = set()
    for moment in range(1, 50):
        path = tmp_path / f"{moment}" / "labels.csv"
        ended = not killed(partial(_answer_and_correct, path), moment)
        rows: list[Any] = LabelFile(path).judgements if path.exists() else []
        labels = [(row.place.segment, row.label) for row in rows]
        assert labels in ([], [(0, 1)], [(0, 1), (1, 1)], [(0, -1), (1, 1)])
        counts.add(len(labels))
        if ended:
            break
    assert ended
    assert labels == [(0, -1), (1, 1)]
    assert counts == {0, 1, 2}
