"""Results of finished rows, kept beside the shards until these are written: a killed run continues from them."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av

from datamodules.shards.files import write_whole

_FACTS = "facts.json"


@dataclass(frozen=True, slots=True)
class Result:
    """Result of the work on one task.

    Attributes:
        facts: what was measured or is wrong, in plain JSON types.
        members: encoded files, by name.
    """

    facts: Any
    members: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KeptResults:
    """Folder of finished results, each under a hash of all that it depends on.

    Attributes:
        folder: made with the first result.
    """

    folder: Path

    @classmethod
    def of(cls, prefix: Path) -> KeptResults:
        """The results of shards by their folder and common name; the folder is hidden, beside them."""
        return cls(prefix.with_name(f".{prefix.name}.kept"))

    def load(self, identity: str) -> Result | None:
        """A result; None where there is none, or where its file is damaged, as after a power cut."""
        try:
            with zipfile.ZipFile(self._path(identity)) as file:
                names = [name for name in file.namelist() if name != _FACTS]
                # `read` compares each member's checksum.
                return Result(json.loads(file.read(_FACTS)), {name: file.read(name) for name in names})
        except (OSError, zipfile.BadZipFile, KeyError, ValueError):
            return None

    def store(self, identity: str, result: Result) -> None:
        """Keep a result."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            for name, content in {_FACTS: json.dumps(result.facts).encode(), **result.members}.items():
                file.writestr(zipfile.ZipInfo(name), content)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._path(identity), buffer.getvalue())

    def remove(self) -> None:
        """Delete all of them, when the shards are written."""
        if self.folder.is_dir():
            shutil.rmtree(self.folder)

    def _path(self, identity: str) -> Path:
        return self.folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.zip"


def identity_of(path: Path, *settings: Any) -> str | None:
    """A file's name, size and time, and what else a result depends on, as one text; None where there is no such file.

    Args:
        path: of the file.
        settings: in plain JSON types.
    """
    try:
        file = path.stat()
    except OSError:
        return None
    # The encoder's release, as it may make other bytes of the same frames.
    return json.dumps([av.__version__, str(path.absolute()), file.st_size, file.st_mtime_ns, *settings])
