"""Records of finished parts of a prediction, beside their samples: what `vidpref prepare join` goes by."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from datamodules.prepare.parts import Part, require_all_parts

#: The name of a record.
RECORD = re.compile(r"part([1-9]\d*)of([1-9]\d*)\.json", re.ASCII)


@dataclass(frozen=True, slots=True)
class PartRecord:
    """Record of a finished part.

    Attributes:
        source: a hash of settings and keys of the whole run, see `source_digest`.
        keys: of its samples, in the source's order.
        skipped: of samples that could not be read.
        options: of the writer, by which the result is split into files.
    """

    source: str
    keys: list[str]
    skipped: list[str]
    options: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def name(part: Part) -> str:
        """The file name of a part's record."""
        return f"part{part.number}of{part.count}.json"

    def dumps(self) -> bytes:
        """The content of its file."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def read(cls, path: Path) -> PartRecord:
        """A record.

        Raises:
            ValueError: it is damaged.
        """
        try:
            content = json.loads(path.read_bytes())
            return cls(content["source"], list(content["keys"]), list(content["skipped"]), dict(content["options"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: is no record of a part ({error}); delete it, and run the part again") from error


def source_digest(settings: Mapping[str, Any], keys: Sequence[str], options: Mapping[str, Any]) -> str:
    """A hash of all that parts of one prediction share."""
    content = json.dumps([settings, list(keys), options], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def missing_parts(folder: Path, count: int) -> list[str]:
    """The parts of `count` without a record, as ``3/8``."""
    present = {number for number, of in _numbers(folder) if of == count}
    return [f"{number}/{count}" for number in range(1, count + 1) if number not in present]


def finished_records(folder: Path, output: Path) -> list[PartRecord]:
    """The records of all parts, in order.

    Args:
        folder: of the parts.
        output: what they are parts of, for messages.

    Raises:
        ValueError: parts are missing, or are not of one run; says which.
    """
    count = require_all_parts(_numbers(folder), output, "predict")
    records = [PartRecord.read(folder / f"part{number}of{count}.json") for number in range(1, count + 1)]
    others = [f"{n}/{count}" for n, record in enumerate(records, 1) if record.source != records[0].source]
    if others:
        raise ValueError(
            f"{output}: part {', '.join(others)} is of other samples, settings or options than part 1/{count}; run all "
            "with the same ones"
        )
    return records


def _numbers(folder: Path) -> list[tuple[int, int]]:
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return [(int(match[1]), int(match[2])) for name in names if (match := RECORD.fullmatch(name))]
