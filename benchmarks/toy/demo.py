"""Demo of both methods on the toy worlds: DPO and VistaDPO from one checkpoint, then DenseDPO, and a page with results.

    python -m benchmarks.toy.demo --output runs/demo --seed 0

Every stage is a command that a person could type; its output goes to OUTPUT/logs. The toy video-language model sees
well but says yes too often, as large models do; the table shows how plain DPO and VistaDPO change that. The toy video
model breaks where motion is fast; the second half, `benchmarks.toy.dense_demo`, shows its videos before and after.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.base.results import write_json
from benchmarks.report.page import markdown, views_section, web_page
from benchmarks.report.runs import read_run
from benchmarks.report.score_tables import main_table, notes
from benchmarks.toy.dense_demo import dense_sections, dense_stages
from benchmarks.toy.motion_scores import wide_console
from benchmarks.toy.six_views import picture, sample_views
from benchmarks.toy.stages import CommandStage, clear, exit_status, flags, run_stages

#: The file that marks a folder of an earlier demo, which may be emptied.
MARKER = "demo.json"
#: The compared runs, in the order of the table.
TITLES = {"base": "the base model", "dpo": "plain DPO", "vista": "VistaDPO"}
#: Split -> number of videos, each with one question pair or preference pair.
VIDEOS = {"train": 1024, "val": 200, "test": 400}


def stages(output: Path, seed: int, videos: Mapping[str, int] = VIDEOS) -> list[CommandStage]:
    """The demo's commands, in order.

    Args:
        output: the demo's folder.
        seed: of data, negatives and training.
        videos: split -> how many videos.
    """
    data = []
    for split, number in videos.items():
        arguments = ["prepare", "toy", str(output / "data" / split), "--split", split, "--num_videos", str(number)]
        data.append(
            CommandStage(f"make {number} videos: {split}", f"prepare-{split}", [*arguments, "--seed", str(seed)])
        )
    return [*data, *_fits(output, seed), *_tests(output, seed), *dense_stages(output / "dense", seed)]


def _fits(output: Path, seed: int) -> Iterator[CommandStage]:
    """Both fits, each with its validation."""
    for method in ("dpo", "vista"):
        root = output / method
        options: dict[str, object] = {
            "--seed_everything": seed,
            "--trainer.default_root_dir": root,
            "--data.val": output / "data" / "val.index.json",
            "--data.seed": seed,
        }
        train = {"--data.train": output / "data" / "train.index.json"}
        fit = ["fit", *flags({"--config": f"configs/toy/{method}.yaml"} | options | train)]
        yield CommandStage(f"fit {TITLES[method]}", f"fit-{method}", fit)
        # One measure for both: is the reward of the chosen answer above that of the rejected one? VistaDPO's response
        # term mixes in the irrelevant answer, which is easy to tell apart; plain DPO's is exactly this question.
        checkpoint = {"--ckpt_path": root / "checkpoints" / "last.ckpt"}
        validate = ["validate", *flags({"--config": "configs/toy/dpo.yaml"} | options | checkpoint)]
        yield CommandStage(f"validate {TITLES[method]}", f"validate-{method}", validate)


def _tests(output: Path, seed: int) -> Iterator[CommandStage]:
    """The benchmark, on the checkpoint as it is and with each fit's adapter."""
    questions = output / "data" / "test"
    for method, title in TITLES.items():
        options: dict[str, object] = {
            "--config": "configs/benchmarks/toy_hallucer.yaml",
            "--seed_everything": seed,
            "--trainer.default_root_dir": output / method,
            "--model.name": method,
            "--model.output": output / method / "test",
            "--data.questions": questions,
            "--data.videos": questions / "videos",
        }
        if method != "base":
            options["--model.policy.adapter"] = output / method / "exports" / "last"
        yield CommandStage(f"test {title}", f"test-{method}", ["test", *flags(options)])


def run_demo(output: Path, seed: int, videos: Mapping[str, int] = VIDEOS) -> None:
    """Run the demo; prints the table and writes `report.html` and `report.md`.

    Args:
        output: the demo's folder; that of an earlier demo is emptied.
        seed: of data, negatives and training.
        videos: split -> how many videos.

    Raises:
        ValueError: the output folder holds other files than a demo's.
        RuntimeError: a stage failed.
    """
    console = Console()
    clear(output, MARKER)
    commands = stages(output, seed, videos)
    record = {"seed": seed, "commands": [shlex.join(["vidpref", *stage.arguments]) for stage in commands]}
    # Before the first stage, so that the folder of an interrupted demo can be emptied, too.
    write_json(output / MARKER, record)
    seconds = run_stages(commands, output / "logs", console)
    write_json(output / MARKER, record | {"seconds": {name: round(value, 1) for name, value in seconds.items()}})
    runs = [read_run(output / name) for name in TITLES]
    views = picture(sample_views(output / "data" / "val.index.json", seed=seed))
    (output / "six_views.png").write_bytes(views)
    dense = dense_sections(output / "dense")
    motion = dense[0].table
    assert motion is not None, "the first section has the table"
    (output / "report.md").write_text(f"{markdown(runs)}\n{dense[0].title}:\n\n{motion.markdown()}", encoding="utf-8")
    page = web_page(runs, [views_section(views), *dense], title=f"Both methods on the toy worlds, seed {seed}")
    (output / "report.html").write_text(page, encoding="utf-8")
    main_table(runs).show(console)
    for note in notes(runs):
        console.print(note)
    motion.show(wide_console())
    console.print(f"The page with loss curves and pictures: {output / 'report.html'}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo from the command line; the exit status is 1 when a stage failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.toy.demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--output", type=Path, default=Path("runs/demo"), help="the demo's folder; an earlier demo in it is removed"
    )
    parser.add_argument("--seed", type=int, default=0, help="of data, negatives and training")
    options = parser.parse_args(argv)
    return exit_status(lambda output: run_demo(output, options.seed), options.output)


if __name__ == "__main__":
    sys.exit(main())
