"""The CSV of labels as it grows: one row an answer, on disk before the next question is asked."""

from __future__ import annotations

import csv
import io
import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from datamodules.prepare.judgements import LABEL_COLUMNS, WHOLE, Judgement, Place, read_judgements
from datamodules.shards.files import replaced_file, write_whole
from datamodules.user_files import user_file

#: Who answered what, the first or the second time: there is one row of each.
AnswerKey = tuple[str, Place, int]

_WORDS = {1: "first", -1: "second", 0: "tie"}


class ChangedFileError(OSError):
    """The file was changed by another program while the page was open."""


class LabelFile:
    """CSV file of labels, as `vidpref prepare labels` reads it.

    A new answer is a line behind the others; another answer to an answered question writes the file again under a
    partial name, so that at any moment the file is whole but for a line that was being written. That one is repaired
    when the file is opened the next time. Several threads may write.

    Args:
        path: the file; made where there is none.

    Raises:
        ValueError: it is there and is no such CSV; lists every fault of every row.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = user_file(path)
        #: What was repaired, for the terminal; "" = nothing.
        self.repaired = ""
        self._lock = threading.Lock()
        self._rows: dict[AnswerKey, Judgement] = {}
        if self.path.exists() and self.path.stat().st_size:
            self._open()
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, _lines([LABEL_COLUMNS]))
        self._state = self._stat()

    def _open(self) -> None:
        content = self.path.read_bytes()
        header = next(csv.reader([content.split(b"\n", 1)[0].decode("utf-8-sig", "replace")]))
        complete, cut = _without_cut_line(content, len(header))
        if complete == content:
            judgements = read_judgements(self.path, may_be_empty=True)
        else:
            # Read under a partial name: the file is changed only when all of it is understood.
            with replaced_file(self.path) as file:
                file.write(complete)
                file.flush()
                try:
                    judgements = read_judgements(file.name, may_be_empty=True)
                except ValueError as error:
                    raise ValueError(str(error).replace(file.name, str(self.path))) from error
        if cut:
            self.repaired = (
                f"{self.path}: the last line was cut short and is removed, its question is asked again: {cut}"
            )
        self._rows = {_key(judgement): judgement for judgement in judgements}
        if [name.strip() for name in header] != list(LABEL_COLUMNS):
            write_whole(self.path, self._content())

    @property
    def judgements(self) -> list[Judgement]:
        """All answers of all annotators."""
        with self._lock:
            return list(self._rows.values())

    def answers(self, annotator: str) -> dict[tuple[Place, int], Judgement]:
        """(place, repeat) -> answer, of one annotator."""
        with self._lock:
            return {key[1:]: row for key, row in self._rows.items() if key[0] == annotator}

    def write(self, judgement: Judgement) -> None:
        """Put an answer on disk, in place of the annotator's former one to the same question; return when it is there.

        An answer that is there already, as after a request that was sent twice, changes nothing.

        Raises:
            ChangedFileError: another program has written the file.
            OSError: the disk is full or the like; the file is as it was.
        """
        with self._lock:
            former = self._rows.get(_key(judgement))
            if former is not None and former.label == judgement.label:
                return
            if self._stat() != self._state:
                raise ChangedFileError(
                    f"{self.path} was changed by another program; nothing was written. End `vidpref label` and start "
                    "it again, which reads the file as it is now"
                )
            try:
                if former is None:
                    self._append(judgement)
                else:
                    write_whole(self.path, self._content({_key(judgement): judgement}))
            finally:  # also after a failure: the file has been touched by this program alone
                self._state = self._stat()
            self._rows[_key(judgement)] = judgement

    def _append(self, judgement: Judgement) -> None:
        with self.path.open("ab") as file:
            size = file.tell()
            try:
                file.write(_lines([_row(judgement)]))
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)  # a full disk takes half a line
                raise

    def _content(self, changed: dict[AnswerKey, Judgement] | None = None) -> bytes:
        return _lines([LABEL_COLUMNS, *map(_row, (self._rows | (changed or {})).values())])

    def _stat(self) -> tuple[int, int] | None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return status.st_size, status.st_mtime_ns


def _key(judgement: Judgement) -> AnswerKey:
    return judgement.annotator, judgement.place, judgement.repeat


def _row(judgement: Judgement) -> tuple[str, ...]:
    segment = "whole" if judgement.place.segment is WHOLE else str(judgement.place.segment)
    row = (judgement.place.key, segment, _WORDS[judgement.label], judgement.annotator)
    seconds = "" if judgement.seconds is None else f"{judgement.seconds:.15g}"
    # The repeat last: by it a line is known to be whole.
    return (*row, judgement.side, judgement.time, seconds, str(judgement.repeat))


def _lines(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _without_cut_line(content: bytes, columns: int) -> tuple[bytes, str]:
    """The content up to its last whole line, and what was cut off; a whole line only lacks its newline."""
    complete, _, last = content.rpartition(b"\n")
    if not last:
        return content, ""
    fields = next(csv.reader([last.decode("utf-8", "replace")]))
    # The last column of a line of ours is the repeat, one digit: if it is there, all of the line is.
    if len(fields) == columns and fields[-1]:
        return content + b"\n", ""
    return complete + b"\n", repr(last.decode("utf-8", "replace"))
