"""Stages: commands that run one after the other under one progress bar, each in its own process with its own log."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from datamodules.shards.output_lock import LockedError, OutputLock

ROOT = Path(__file__).resolve().parents[2]
#: A line of a running fit: "step 120: loss 1.234 ... left 0:00:42".
STEP_LINE = re.compile(r"step \d+: .*")


@dataclass(frozen=True, slots=True)
class CommandStage:
    """Stage of a demo or study: one command.

    Attributes:
        title: what it does.
        name: its log is OUTPUT/logs/NAME.log.
        arguments: the command line after `vidpref`.
    """

    title: str
    name: str
    arguments: list[str]


def flags(options: Mapping[str, object]) -> list[str]:
    """Option -> value, as arguments of a command line."""
    return [str(part) for option_and_value in options.items() for part in option_and_value]


def run_stage(stage: CommandStage, logs: Path, show: Callable[[str], None]) -> None:
    """Run one command in a process of its own, exactly as if a person had typed it.

    Args:
        stage: the command.
        logs: the folder for its output.
        show: gets a fit's lines of progress.

    Raises:
        RuntimeError: the command failed; with the end of its output.
    """
    command = [sys.executable, "-m", "vidpref", *stage.arguments]
    log = logs / f"{stage.name}.log"
    # A wide terminal, so that a line of progress stays one line; unbuffered, so that it comes at once.
    environment = os.environ | {"COLUMNS": "200", "PYTHONUNBUFFERED": "1"}
    with log.open("w", encoding="utf-8") as file:
        print(f"$ {shlex.join(['vidpref', *stage.arguments])}", file=file, flush=True)
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            for line in process.stdout or ():
                file.write(line)
                file.flush()  # so that a person can follow the log
                if STEP_LINE.match(line):
                    show(line.strip())
    if process.returncode:
        end = "".join(log.read_text(encoding="utf-8").splitlines(keepends=True)[-20:])
        raise RuntimeError(f"stage '{stage.title}' failed; {log} ends with:\n{end}")


def run_stages(stages: Sequence[CommandStage], logs: Path, console: Console) -> dict[str, float]:
    """Run all stages under one progress bar.

    Returns:
        stage name -> seconds.
    """
    seconds: dict[str, float] = {}
    columns = (
        SpinnerColumn(),
        TextColumn("{task.completed}/{task.total}"),
        BarColumn(bar_width=24),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[status]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(stages), status="")
        for number, stage in enumerate(stages, start=1):
            progress.update(task, description=stage.title, status="")
            started = time.monotonic()
            run_stage(stage, logs, lambda line: progress.update(task, status=line))
            seconds[stage.name] = time.monotonic() - started
            progress.update(task, advance=1, status="")
            progress.console.print(f"{number}/{len(stages)} {stage.title}: {seconds[stage.name]:.0f} s")
    return seconds


def clear(output: Path, marker: str) -> None:
    """Make an empty folder; of existing ones only that of an earlier run is emptied.

    Args:
        output: the folder.
        marker: the file that marks a folder which may be emptied.

    Raises:
        ValueError: the folder holds something else.
    """
    if output.exists() and any(output.iterdir()):
        if not (output / marker).is_file():
            raise ValueError(f"{output} holds files that no earlier run wrote; give a new folder with --output")
        shutil.rmtree(output)
    (output / "logs").mkdir(parents=True)


def exit_status(run: Callable[[Path], None], output: Path) -> int:
    """Run a demo or study; 1 when it failed, with its message on the error stream.

    Args:
        run: called with the folder.
        output: the folder. Stages run in the repository's root; a path from there keeps the recorded commands short.
    """
    try:
        with OutputLock(output):
            # Stages run in the repository's root: from there a relative path is right, and shorter in the records.
            run(output if Path.cwd() == ROOT else output.resolve())
    except (RuntimeError, ValueError, LockedError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0
