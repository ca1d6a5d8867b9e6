"""Both journeys on the toy worlds: DPO and VistaDPO from one checkpoint, then DenseDPO, and a page that compares.

    python -m benchmarks.toy.demo --output runs/demo --seed 0

Every stage is a command that a person could type; its output goes to OUTPUT/logs. The toy video-language model sees
well but says yes too often, as large models do; the table shows what plain DPO and VistaDPO make of it. The toy video
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
from benchmarks.toy.stages import Stage, clear, exit_status, flags, run_stages

#: Lies in a folder that the demo made and may therefore make again.
MARKER = "demo.json"
#: What is compared, in the order of the table.
TITLES = {"base": "the base model", "dpo": "plain DPO", "vista": "VistaDPO"}
#: How many videos of each split; a question pair or a preference pair each.
VIDEOS = {"train": 1024, "val": 200, "test": 400}


def stages(output: Path, seed: int, videos: Mapping[str, int] = VIDEOS) -> list[Stage]:
    """The demo's commands, in order.

    Args:
        output: the demo's folder.
        seed: of data, negatives and training.
        videos: split -> how many videos.
    """
    vista = [*_prepare(output / "data", seed, videos), *_fits(output, seed), *_tests(output, seed)]
    return [*vista, *dense_stages(output / "dense", seed)]


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
        fit = ["fit", *flags({"--config": f"configs/toy/{method}.yaml"} | given | train)]
        yield Stage(f"fit {TITLES[method]}", f"fit-{method}", fit)
        # One measure for both: is the reward of the chosen answer above that of the rejected wrong one? The response
        # term of VistaDPO mixes in the irrelevant answer, which is easy to tell; plain DPO's is the question itself.
        judged = {"--ckpt_path": root / "checkpoints" / "last.ckpt"}
        validate = ["validate", *flags({"--config": "configs/toy/dpo.yaml"} | given | judged)]
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
        yield Stage(f"test {title}", f"test-{method}", ["test", *flags(given)])


def run_demo(output: Path, seed: int, videos: Mapping[str, int] = VIDEOS) -> None:
    """Run the demo; prints the table and writes `report.html` and `report.md`.

    Raises:
        ValueError: the output folder is somebody else's.
        RuntimeError: a stage failed.
    """
    console = Console()
    clear(output, MARKER)
    wanted = stages(output, seed, videos)
    record = {"seed": seed, "commands": [shlex.join(["vidpref", *stage.arguments]) for stage in wanted]}
    write_json(output / MARKER, record)
    seconds = run_stages(wanted, output / "logs", console)
    write_json(output / MARKER, record | {"seconds": {name: round(value, 1) for name, value in seconds.items()}})
    runs = [read_run(output / name) for name in TITLES]
    views = picture(sample_views(output / "data" / "val.index.json", seed=seed))
    (output / "six_views.png").write_bytes(views)
    dense = dense_sections(output / "dense")
    motion = dense[0].table
    assert motion is not None, "the first section has the table"
    (output / "report.md").write_text(f"{markdown(runs)}\n{dense[0].title}:\n\n{motion.markdown()}", encoding="utf-8")
    page = web_page(runs, [views_section(views), *dense], title=f"Both journeys on the toy worlds, seed {seed}")
    (output / "report.html").write_text(page, encoding="utf-8")
    main_table(runs).show(console)
    for note in notes(runs):
        console.print(note)
    motion.show(wide_console())
    console.print(f"The page with loss curves and pictures: {output / 'report.html'}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo from the command line; the exit status is 1 when a stage failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.toy.demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/demo"), help="the demo's folder, made again")
    parser.add_argument("--seed", type=int, default=0, help="of data, negatives and training")
    options = parser.parse_args(argv)
    return exit_status(lambda output: run_demo(output, options.seed), options.output)


if __name__ == "__main__":
    sys.exit(main())
