"""Messages for files that the system does not let be read or written: the file, the setting behind it, a remedy."""

from __future__ import annotations

import errno
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from callbacks.cli.lost_processes import frames_of
from datamodules.user_files import user_file

#: Error number -> cause, remedy.
_CAUSES = {
    errno.ENOSPC: ("the disk is full", "free some space there, or choose a folder on another disk"),
    errno.EDQUOT: ("the quota of disk space is used up", "free some space there, or choose a folder on another disk"),
    errno.EFBIG: ("the file is larger than is allowed", "raise the limit (`ulimit -f`), or choose another disk"),
    errno.EROFS: ("it is on a read-only file system", "choose a folder that can be written"),
    errno.EACCES: ("permission denied", "change its permissions, or choose another one"),
    errno.EPERM: ("permission denied", "change its permissions, or choose another one"),
}
#: A number as Python writes it, and as Rust does.
_OS_ERROR = re.compile(r"^\[Errno (\d+)\]|\(os error (\d+)\)")
#: Where a run writes if nothing else is said.
_DEFAULTS = (("trainer.default_root_dir", "runs/unnamed"),)


def file_fault(error: Exception, arguments: Sequence[str]) -> str | None:
    """One line on a full disk, a read-only folder or a lack of permission; None for any other error.

    Args:
        error: as the system raised it, or as safetensors reports it.
        arguments: of the command; they and their configuration files have the setting that names the file or a folder
            above it.
    """
    reported = _OS_ERROR.search(str(error))
    if reported is None or (code := int(reported[1] or reported[2])) not in _CAUSES:
        return None
    cause, remedy = _CAUSES[code]
    # A number in place of a name: the file was opened by its descriptor.
    filename = getattr(error, "filename", None)
    path = filename if isinstance(filename, str | os.PathLike) else _open_file(error)
    if path is None:
        return f"{cause}; {remedy}. Of the files that this command writes, the system does not say which it was"
    setting = setting_of(path, arguments)
    return f"{os.fspath(path)}{f' ({setting})' if setting else ''}: {cause}; {remedy}"


def setting_of(path: str | os.PathLike[str], arguments: Sequence[str]) -> str | None:
    """The setting whose value is nearest to a path: the path itself, a folder above it, or one below it.

    Args:
        path: of a file or folder.
        arguments: of the command.
    """
    target = os.path.abspath(path)
    # The lock of an output lies beside it, see `OutputLock`.
    if (lock := re.fullmatch(r"(.*/)\.([^/]+)\.lock", target)) is not None:
        target = lock[1] + lock[2]
    shared: dict[str, int] = {}
    for name, value in _settings(arguments):
        place = os.path.abspath(value)
        # Shards have the setting's value as the beginning of their name; a folder is made from its parents on.
        if place != os.sep and (target.startswith(place) or place.startswith(target)):
            shared[name] = min(len(place), len(target))
    return max(shared, key=lambda name: shared[name], default=None)


def _settings(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Name and value of all texts on the command line and in its configuration files, the last of a name counting."""
    settings = dict(_DEFAULTS)
    previous = ""  # a flag whose value is the next argument
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if previous and not argument.startswith("--"):
            flag, equals, value = previous, "=", argument
        previous = argument if argument.startswith("--") and "=" not in argument else ""
        if equals and flag.startswith("--"):
            settings |= dict(_configured(value)) if flag == "--config" else {flag[2:]: value}
        elif not argument.startswith("-"):
            settings[f"the argument {argument!r}"] = argument
    yield from settings.items()


def _configured(file: str) -> Iterator[tuple[str, str]]:
    """The texts of a YAML file by their dotted keys; none of what cannot be read."""
    import yaml

    try:
        yield from _texts(yaml.safe_load(user_file(file).read_text()))
    except (OSError, ValueError, yaml.YAMLError):
        return


def _texts(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(content, Mapping):
        for name, value in content.items():
            yield from _texts(value, key if name == "init_args" else f"{key}.{name}".lstrip("."))
    elif isinstance(content, str) and content:
        yield key, content


def _open_file(error: Exception) -> str | None:
    """The name of the file that was being written: a write's error does not name it, but its callers hold it open."""
    for frame in frames_of(error):
        for local, value in frame.f_locals.items():
            if local == "filename" and isinstance(value, str | os.PathLike):  # safetensors
                return os.fspath(value)
            name = getattr(value, "name", None) if isinstance(value, io.IOBase) else None
            if isinstance(name, str):
                return name
    return None
