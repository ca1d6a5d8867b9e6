"""Stages: commands with what they read and write, and the order that follows from it."""

from __future__ import annotations

import os
import shlex
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

#: The first word of a command that is a Python module, and no verb.
PYTHON = "python"


@dataclass(frozen=True, slots=True)
class Stage:
    """Stage of a recipe, demo or study: one command.

    Attributes:
        name: its log is OUTPUT/logs/NAME.log, its record OUTPUT/stages/NAME.json.
        command: the words after ``vidpref``, the verb first; or ``python -m MODULE ...``. Given again after it was
            interrupted, the command must go on or start over by itself, as the verbs do.
        reads: files and folders that it needs; it is made again when one of them changes. The files behind ``--config``
            count without being named.
        writes: files and folders that are there when it is done. Of shards name ``NAME.index.json``, which is written
            last; of a fit the run's folder.
        after: names of stages that come before it though it reads nothing of theirs.
        title: what it does, for people; "" = its name.
        devices: words behind the command that say where it runs (devices, strategy, accumulation) and change nothing in
            what comes out: with others a finished stage stays finished.
    """

    name: str
    command: Sequence[str]
    reads: Sequence[str | Path] = ()
    writes: Sequence[str | Path] = ()
    after: Sequence[str] = ()
    title: str = ""
    devices: Sequence[str] = ()

    @property
    def shown(self) -> str:
        """The title, or the name."""
        return self.title or self.name

    @property
    def line(self) -> str:
        """The command as a person would type it."""
        return shlex.join([*([] if self.command[0] == PYTHON else ["vidpref"]), *self.words])

    @property
    def words(self) -> list[str]:
        """The command with its devices."""
        return [*self.command, *self.devices]

    def inputs(self, folder: Path) -> list[Path]:
        """What it reads on this machine, with its configurations, below the folder in which it runs."""
        configs = [word.removeprefix("--config=") for word in self.command if word.startswith("--config=")]
        configs += [value for flag, value in pairwise(self.command) if flag == "--config"]
        paths = [*self.reads, *(config for config in configs if not config.startswith("{"))]
        return list(dict.fromkeys(folder / path for path in paths if "://" not in str(path)))

    def outputs(self, folder: Path) -> list[Path]:
        """What it writes, below the folder in which it runs."""
        return [folder / path for path in self.writes]


def dependencies(stages: Sequence[Stage], folder: Path) -> dict[str, set[str]]:
    """Stage name -> the names of the stages that have to be done before it.

    A stage comes after those that write what it reads, a part of it, or a folder around it.

    Args:
        stages: in any order.
        folder: where they run.

    Raises:
        ValueError: two have one name, one names an unknown stage, two write one output, or they wait for each other.
    """
    names = [stage.name for stage in stages]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two stages are called '{twice[0]}'; give each a name of its own")
    writers, below = _writers(stages, folder)
    graph: dict[str, set[str]] = {}
    for stage in stages:
        if unknown := [name for name in stage.after if name not in names]:
            raise ValueError(f"stage '{stage.name}' comes after '{unknown[0]}', which is none of {', '.join(names)}")
        graph[stage.name] = {*stage.after}
        for path in map(_absolute, stage.inputs(folder)):
            graph[stage.name] |= below[path] | {writers[part] for part in _with_parents(path) if part in writers}
        if stage.name in graph[stage.name]:
            raise ValueError(
                f"stage '{stage.name}' waits for itself: it reads what it writes, or is in its own `after`"
            )
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = " after ".join(f"'{name}'" for name in reversed(error.args[1]))
        raise ValueError(f"stages wait for each other: {circle}; take one `reads` or `after` out") from error
    return graph


def require_inputs(
    stages: Iterable[Stage], graph: Mapping[str, Collection[str]], folder: Path, selected: Collection[str]
) -> None:
    """Refuse a stage that reads what is not there, where no selected stage before it writes it.

    Args:
        stages: all of them.
        graph: their `dependencies`.
        folder: where they run.
        selected: the names of those that are to run.

    Raises:
        ValueError: names stage and path, and what to do.
    """
    by_name = {stage.name: stage for stage in stages}
    for stage in by_name.values():
        for path in stage.inputs(folder) if stage.name in selected else ():
            before = [by_name[name] for name in by_name if name in graph[stage.name]]
            makers = [other.name for other in before if _writes(other, path, folder)]
            if path.exists() or set(makers) & set(selected):
                continue
            remedy = (
                f"run stage '{makers[0]}' first, which writes it" if makers else "correct it, or add what writes it"
            )
            raise ValueError(f"stage '{stage.name}' reads {path}, which is not there; {remedy}")


def _writers(stages: Iterable[Stage], folder: Path) -> tuple[dict[Path, str], dict[Path, set[str]]]:
    """Output -> who writes it, and any folder -> who writes something below it."""
    writers: dict[Path, str] = {}
    below: dict[Path, set[str]] = defaultdict(set)
    for stage in stages:
        for path in stage.outputs(folder):
            absolute = _absolute(path)
            others = {writers[part] for part in _with_parents(absolute) if part in writers} | below[absolute]
            if others - {stage.name}:
                other = sorted(others - {stage.name})[0]
                raise ValueError(
                    f"stages '{other}' and '{stage.name}' both write {path}, or one of them within it; give each an "
                    "output of its own"
                )
            writers[absolute] = stage.name
            for parent in absolute.parents:
                below[parent].add(stage.name)
    return writers, below


def _writes(stage: Stage, path: Path, folder: Path) -> bool:
    outputs = {_absolute(output) for output in stage.outputs(folder)}
    return any(part in outputs for part in _with_parents(_absolute(path))) or any(
        _absolute(path) in output.parents for output in outputs
    )


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _with_parents(path: Path) -> list[Path]:
    return [path, *path.parents]
