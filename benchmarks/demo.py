"""The whole journey on the toy world: shards, DPO and VistaDPO from one checkpoint, and a table that compares them.

    python -m benchmarks.demo --output runs/demo --seed 0

Every stage is a command that a person could type; its output goes to OUTPUT/logs. The toy checkpoint sees well but says
yes too often, as large models do. The table shows what plain DPO and VistaDPO make of it.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks.report import main_table, markdown, notes, web_page
from benchmarks.results import write_json
from benchmarks.runs import read_run
from benchmarks.six_views import picture, sample_views

ROOT = Path(__file__).resolve().parent.parent
#: Lies in a folder that the demo made and may therefore make anew.
MARKER = "demo.json"
#: What is compared, in the order of the table.
TITLES = {"base": "the base model", "dpo": "plain DPO", "vista": "VistaDPO"}
#: How many videos of each split; a question pair or a preference pair each.
VIDEOS = {"train": 1024, "val": 200, "test": 400}
#: A line of a running fit: "step 120: loss 1.234 ... left 0:00:42".
STEP_LINE = re.compile(r"step \d+: .*")


@dataclass(frozen=True, slots=True)
class Stage:
    """One command of the demo.

    Attributes:
        title: what it does.
        name: its log is OUTPUT/logs/NAME.log.
        arguments: what follows `vidpref`.
    """

    title: str
    name: str
    arguments: list[str]


def stages(output: Path, seed: int, videos: Mapping[str, int] = VIDEOS) -> list[Stage]:
    """The demo's commands, in order.

    Args:
        output: the demo's folder.
        seed: of data, negatives and training.
        videos: split -> how many videos.
    """
    return [*_prepare(output / "data", seed, videos), *_fits(output, seed), *_tests(output, seed)]


def _prepare(data: Path, seed: int, videos: Mapping[str, int]) -> Iterator[Stage]:
    for split, number in videos.items():
        arguments = ["prepare", "toy", str(data / split), "--split", split, "--num_videos", str(number)]
        yield Stage(f"make {number} videos: {split}", f"prepare-{split}", [*arguments, "--seed", str(seed)])


def _fits(output: Path, seed: int) -> Iterator[Stage]:
    """Both fits, each with a validation."""
    for method in ("dpo", "vista"):
        root = output / method
        given: dict[str, object] = {
            "--seed_everything": seed,
            "--trainer.default_root_dir": root,
            "--data.val": output / "data" / "val.index.json",
            "--data.seed": seed,
        }
        train = {"--data.train": output / "data" / "train.index.json"}
        fit = ["fit", *_flags({"--config": f"configs/toy/{method}.yaml"} | given | train)]
        yield Stage(f"fit {TITLES[method]}", f"fit-{method}", fit)
        # One measure for both: is the reward of the chosen answer above that of the relevant wrong one? The response
        # term of VistaDPO mixes in the irrelevant answer, which is easy to tell; plain DPO's is the question itself.
        judged = {"--ckpt_path": root / "checkpoints" / "last.ckpt"}
        validate = ["validate", *_flags({"--config": "configs/toy/dpo.yaml"} | given | judged)]
        yield Stage(f"validate {TITLES[method]}", f"validate-{method}", validate)


def _tests(output: Path, seed: int) -> Iterator[Stage]:
    """The benchmark, on the checkpoint as it is and with each fit's adapter."""
    questions = output / "data" / "test"
    for method, title in TITLES.items():
        given: dict[str, object] = {
            "--config": "configs/benchmarks/toy_hallucer.yaml",
            "--seed_everything": seed,
            "--trainer.default_root_dir": output / method,
            "--model.name": method,
            "--model.output": output / method / "test",
            "--data.questions": questions,
            "--data.videos": questions / "videos",
        }
        if method != "base":
            given["--model.policy.adapter"] = output / method / "exports" / "last"
        yield Stage(f"test {title}", f"test-{method}", ["test", *_flags(given)])


def _flags(given: dict[str, object]) -> list[str]:
    return [str(part) for pair in given.items() for part in pair]


def run_stage(stage: Stage, logs: Path, tell: Callable[[str], None]) -> None:
    """Run one command in a process of its own, so that it is what a person would have typed.

    Args:
        stage: the command.
        logs: the folder for its output.
        tell: gets what a fit says of its progress.

    Raises:
        RuntimeError: the command failed; with the end of its output.
    """
    command = [sys.executable, "-m", "vidpref", *stage.arguments]
    log = logs / f"{stage.name}.log"
    # A wide "terminal": a line of progress stays one line.
    environment = os.environ | {"COLUMNS": "200", "PYTHONUNBUFFERED": "1"}
    with log.open("w", encoding="utf-8") as file:
        print(f"$ {shlex.join(['vidpref', *stage.arguments])}", file=file, flush=True)
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            for line in process.stdout or ():
                file.write(line)
                file.flush()
                if STEP_LINE.match(line):
                    tell(line.strip())
    if process.returncode:
        end = "".join(log.read_text(encoding="utf-8").splitlines(keepends=True)[-20:])
        raise RuntimeError(f"stage '{stage.title}' failed; {log} ends with:\n{end}")


def run_stages(wanted: Sequence[Stage], logs: Path, console: Console) -> dict[str, float]:
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
        task = progress.add_task("", total=len(wanted), status="")
        for number, stage in enumerate(wanted, start=1):
            progress.update(task, description=stage.title, status="")
            started = time.monotonic()
            run_stage(stage, logs, lambda line: progress.update(task, status=line))
            seconds[stage.name] = time.monotonic() - started
            progress.update(task, advance=1, status="")
            progress.console.print(f"{number}/{len(wanted)} {stage.title}: {seconds[stage.name]:.0f} s")
    return seconds


def clear(output: Path) -> None:
    """Make the folder new; only one that an earlier demo made is emptied.

    Raises:
        ValueError: the folder holds something else.
    """
    if output.exists() and any(output.iterdir()):
        if not (output / MARKER).is_file():
            raise ValueError(f"{output} holds files that no demo wrote; give a new folder with --output")
        shutil.rmtree(output)
    (output / "logs").mkdir(parents=True)


def run_demo(output: Path, seed: int, videos: Mapping[str, int] = VIDEOS) -> None:
    """Run the demo; prints the table and writes `report.html` and `report.md`.

    Raises:
        ValueError: the output folder is somebody else's.
        RuntimeError: a stage failed.
    """
    console = Console()
    clear(output)
    wanted = stages(output, seed, videos)
    record = {"seed": seed, "commands": [shlex.join(["vidpref", *stage.arguments]) for stage in wanted]}
    write_json(output / MARKER, record)
    seconds = run_stages(wanted, output / "logs", console)
    write_json(output / MARKER, record | {"seconds": {name: round(value, 1) for name, value in seconds.items()}})
    runs = [read_run(output / name) for name in TITLES]
    views = picture(sample_views(output / "data" / "val.index.json", seed=seed))
    (output / "six_views.png").write_bytes(views)
    (output / "report.md").write_text(markdown(runs), encoding="utf-8")
    page = web_page(runs, views, title=f"VistaDPO on the toy world, seed {seed}")
    (output / "report.html").write_text(page, encoding="utf-8")
    main_table(runs).show(console)
    for note in notes(runs):
        console.print(note)
    console.print(f"The page with loss curves and pictures: {output / 'report.html'}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo from the command line; the exit status is 1 when a stage failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/demo"), help="the demo's folder, made anew")
    parser.add_argument("--seed", type=int, default=0, help="of data, negatives and training")
    options = parser.parse_args(argv)
    # Stages run in the repository's root; a path from there keeps the recorded commands short.
    output: Path = options.output if Path.cwd() == ROOT else options.output.resolve()
    try:
        run_demo(output, options.seed)
    except (RuntimeError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
