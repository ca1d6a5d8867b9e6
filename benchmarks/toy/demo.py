"""Demo of both methods on the toy worlds: DPO and VistaDPO from one checkpoint, then DenseDPO, and a page with results.

    python -m benchmarks.toy.demo --output runs/demo --seed 0

Every stage is a command that a person could type; its output goes to OUTPUT/logs, and the same command again goes on
where an interrupted demo ended. The toy video-language model sees what a video shows and answers what is usual; the
tables show how plain DPO and VistaDPO change that. The toy video model breaks where motion is fast; the second half,
`benchmarks.toy.dense_demo`, shows its videos before and after.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.base.results import write_json
from benchmarks.report.page import Section, markdown, views_section, web_page
from benchmarks.report.runs import read_run
from benchmarks.report.score_tables import main_table, notes
from benchmarks.report.tables import Cell, Row, Table
from benchmarks.toy.commands import PRELOAD, ROOT, flags, from_root, wide_console
from benchmarks.toy.dense_demo import dense_sections, dense_stages, study_line
from benchmarks.toy.results_page import FOLDER
from benchmarks.toy.vista.methods import BASE, Size
from benchmarks.toy.vista.page import ABOUT, SAID, spread
from benchmarks.toy.vista.six_views import picture, sample_views
from callbacks.cli.recipes.runner import exit_status, run_stages
from callbacks.cli.recipes.stage import PYTHON, Stage

#: The record of a demo: its commands and how long they took.
MARKER = "demo.json"
#: The compared runs, in the order of the table.
TITLES = {"base": "the base model", "dpo": "plain DPO", "vista": "VistaDPO"}
#: The measures of a run, in its folder.
SCORES = "said.json"
SAID_TITLE = "VistaDPO: what sentences say of balanced videos, seed {seed}"
#: The study's results, where it was run.
STUDY = FOLDER / "vista.json"
#: Split -> number of videos, each with one question pair or preference pair; "train" and "said" are as many as the
#: study's, so that a seed's fits are the study's.
VIDEOS = {"train": Size().rows, "val": 200, "test": 400, "said": Size().videos}
#: Rows whose facts are as often as not the usual ones: by these, sentences are measured.
SAID_SPLIT = ("--split", "val", "--prior", "0.5")


def stages(output: Path, seed: int, videos: Mapping[str, int] = VIDEOS) -> list[Stage]:
    """The demo's commands, in order.

    Args:
        output: the demo's folder.
        seed: of data, negatives and training.
        videos: split -> how many videos.
    """
    data = []
    for split, number in videos.items():
        folder = output / "data" / split
        kind = SAID_SPLIT if split == "said" else ("--split", split)
        arguments = ["prepare", "toy", str(folder), *kind, "--num_videos", str(number)]
        made = folder if split == "test" else f"{folder}.index.json"
        command = [*arguments, "--seed", str(seed)]
        data.append(Stage(f"prepare-{split}", command, writes=[made], title=f"make {number} videos: {split}"))
    return [*data, *_fits(output, seed), *_tests(output, seed), *dense_stages(output / "dense", seed)]


def _fits(output: Path, seed: int) -> Iterator[Stage]:
    """Both fits, each with its validation."""
    for method in ("dpo", "vista"):
        root = output / method
        val, train = (output / "data" / f"{split}.index.json" for split in ("val", "train"))
        options: dict[str, object] = {
            "--seed_everything": seed,
            "--trainer.default_root_dir": root,
            "--data.val": val,
            "--data.seed": seed,
        }
        fit = ["fit", *flags({"--config": f"configs/toy/{method}.yaml"} | options | {"--data.train": train})]
        made = [root / "checkpoints", root / "exports"]
        yield Stage(f"fit-{method}", fit, [train, val], made, title=f"fit {TITLES[method]}")
        # One measure for both: is the reward of the chosen answer above that of the rejected one? VistaDPO's response
        # term mixes in the irrelevant answer, which is easy to tell apart; plain DPO's is exactly this question.
        last = root / "checkpoints" / "last.ckpt"
        validate = ["validate", *flags({"--config": "configs/toy/dpo.yaml"} | options | {"--ckpt_path": last})]
        made = [root / "validate"]
        yield Stage(f"validate-{method}", validate, [val, last], made, title=f"validate {TITLES[method]}")


def _tests(output: Path, seed: int) -> Iterator[Stage]:
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
        reads = [questions]
        if method != BASE:
            options["--model.policy.adapter"] = output / method / "exports" / "last"
            reads.append(output / method / "exports" / "last")
        made = [output / method / "test"]
        yield Stage(f"test-{method}", ["test", *flags(options)], reads, made, title=f"test {title}")
        yield _measure(output, method)


def _measure(output: Path, method: str) -> Stage:
    """What the sentences of a run say."""
    videos, written = output / "data" / "said.index.json", output / method / SCORES
    command, reads = [PYTHON, "-m", "benchmarks.toy.vista.scores", str(videos), str(written)], [videos]
    if method != BASE:
        reads.append(output / method / "exports" / "last")
        command += ["--adapter", str(reads[-1])]
    return Stage(f"say-{method}", command, reads, [written], title=f"measure {TITLES[method]}")


def run_demo(output: Path, seed: int, videos: Mapping[str, int] = VIDEOS) -> None:
    """Run the demo; prints the table and writes `report.html` and `report.md`.

    Args:
        output: the demo's folder; what an interrupted demo has done there stays.
        seed: of data, negatives and training.
        videos: split -> how many videos.

    Raises:
        StageError: a stage failed.
        StoppedError: a signal stopped it.
    """
    console = Console()
    commands = stages(output, seed, videos)
    # Two at a time: the models are so small that more threads would wait for each other.
    seconds = run_stages(commands, output, jobs=2, folder=ROOT, console=console, preload=PRELOAD)
    write_json(output / MARKER, {"seed": seed, "commands": [stage.line for stage in commands], "seconds": seconds})
    runs = [read_run(output / name) for name in TITLES]
    views = picture(sample_views(output / "data" / "val.index.json", seed=seed))
    (output / "six_views.png").write_bytes(views)
    dense = dense_sections(output / "dense")
    table = said_table(said_scores(output))
    said = Section(SAID_TITLE.format(seed=seed), ABOUT[0], table)
    motion = dense[0].table
    assert motion is not None, "the first section has the table"
    parts = [f"{section.title}:\n\n{section.table.markdown()}" for section in (said, dense[0]) if section.table]
    (output / "report.md").write_text("\n".join([markdown(runs), *parts]), encoding="utf-8")
    page = web_page(runs, [said, views_section(views), *dense], title=f"Both methods on the toy worlds, seed {seed}")
    (output / "report.html").write_text(page, encoding="utf-8")
    main_table(runs).show(console)
    for note in notes(runs):
        console.print(note)
    table.show(wide_console())
    motion.show(wide_console())
    console.print(study_line())
    console.print(f"The page with loss curves and pictures: {output / 'report.html'}")


def said_scores(output: Path) -> dict[str, list[dict[str, float]]]:
    """Title -> scores: of this demo, and of every seed of the study where its results are there."""
    scores = {title: [json.loads((output / name / SCORES).read_text())] for name, title in TITLES.items()}
    if STUDY.is_file():
        runs = json.loads(STUDY.read_text(encoding="utf-8"))["data"].get("runs", {})
        scores |= {f"{TITLES[name]}, in the study": runs[name] for name in TITLES if name in runs}
    return scores


def said_table(scores: Mapping[str, Sequence[Mapping[str, float]]]) -> Table:
    """A line for each run: what its sentences say; of several seeds the mean, the smallest and the largest."""
    rows = [
        Row(title, "", [Cell(spread(seeds, key) if len(seeds) > 1 else f"{seeds[0][key]:.3f}") for key in SAID])
        for title, seeds in scores.items()
    ]
    return Table(("run", *SAID.values()), rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo from the command line; the exit status is 1 when a stage failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.toy.demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--output", type=Path, default=Path("runs/demo"), help="the demo's folder; an interrupted demo in it goes on"
    )
    parser.add_argument("--seed", type=int, default=0, help="of data, negatives and training")
    options = parser.parse_args(argv)
    return exit_status(lambda: run_demo(from_root(options.output), options.seed))


if __name__ == "__main__":
    sys.exit(main())
