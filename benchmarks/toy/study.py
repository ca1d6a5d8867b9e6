"""DenseDPO's experiment on the toy world: vanilla, structural and dense DPO from as many labels, on three seeds.

    python -m benchmarks.toy.study --output runs/study

Does vanilla DPO lose motion, do guided pairs keep it, and do labels for every second keep it and win on quality? Both
kinds of pairs are made once from the same real videos and labelled by the toy world's judge, which knows the truth.
Every method is then fitted and sampled from on each seed. "dense" has a quarter of the pairs, and so as many labels as
the others (a pair has four seconds); "dense, all pairs" has as many pairs, and four times the labels.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.base.results import write_json
from benchmarks.toy.commands import ROOT, flags, from_root
from benchmarks.toy.motion_pictures import samples_picture
from benchmarks.toy.motion_scores import motion_table, one_of_each_speed, score_folder, wide_console
from callbacks.cli.recipes.runner import exit_status, run_stages
from callbacks.cli.recipes.stage import Stage
from datamodules.toy_world.motion_world import SPEEDS

MARKER = "study.json"
BASE = "base"


@dataclass(frozen=True, slots=True)
class Method:
    """Method of the study, one line of its table.

    Attributes:
        title: its name in the table.
        pairs: kind of pairs, "vanilla" or "structural".
        labels: "whole" or "segments".
        share: the fraction of the labelled pairs that it trains on.
    """

    title: str
    pairs: str
    labels: str
    share: float = 1.0


METHODS = {
    "vanilla": Method("vanilla DPO", "vanilla", "whole"),
    "structural": Method("structural DPO", "structural", "whole"),
    "dense": Method("DenseDPO, as many labels", "structural", "segments", 0.25),
    "dense-all": Method("DenseDPO, as many pairs", "structural", "segments"),
}


@dataclass(frozen=True, slots=True)
class Size:
    """Size of the study.

    Attributes:
        pairs: labelled pairs of each kind.
        prompts: prompts that are sampled, slow, medium and fast ones in turn.
        samples: videos for each prompt.
        steps: optimizer steps of a fit.
    """

    pairs: int = 192
    prompts: int = 36
    samples: int = 2
    steps: int = 200

    def __post_init__(self) -> None:
        least = {"pairs": 1, "prompts": len(SPEEDS), "samples": 1, "steps": 1}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise ValueError(f"{name} is {getattr(self, name)}; give {minimum} or more")


def study_stages(output: Path, seeds: Sequence[int], size: Size) -> list[Stage]:
    """The study's commands, in order.

    Args:
        output: the study's folder.
        seeds: of training and sampling.
        size: numbers of pairs, prompts and steps.
    """
    stages = [*_pairs(output, size), *_labels(output)]
    for seed in seeds:
        stages.append(_sample(output, BASE, seed, size))
        for name in METHODS:
            stages += [_fit(output, name, seed, size), _sample(output, name, seed, size)]
    return stages


def _pairs(output: Path, size: Size) -> Iterator[Stage]:
    """Real videos, and both kinds of pairs from them."""
    for split, number in (("train", size.pairs), ("test", size.prompts)):
        prepare = ["prepare", "toy-videos", str(output / split), "--split", split, "--num_videos", str(number)]
        made = [f"{output / split}.index.json", f"{output / split}.txt"]
        yield Stage(f"videos-{split}", prepare, writes=made, title=f"make {number} videos: {split}")
    # eta 1 starts from noise alone: two samples of one prompt have nothing in common.
    for kind, eta in (("structural", None), ("vanilla", 1.0)):
        given: dict[str, object] = {
            "--config": "configs/toy/wan_pairs.yaml",
            "--trainer.default_root_dir": output / "making" / kind,
            "--trainer.callbacks.ShardWriter.output": output / kind,
            "--data.predict": output / "train.index.json",
        }
        if eta is not None:
            given["--model.eta"] = eta
        indexes = [output / "train.index.json"], [output / f"{kind}.index.json"]
        yield Stage(f"pairs-{kind}", ["predict", *flags(given)], *indexes, title=f"make {kind} pairs")


def _labels(output: Path) -> Iterator[Stage]:
    """The judge's labels, of whole videos and of segments."""
    for kind, granularity in (("vanilla", "whole"), ("structural", "whole"), ("structural", "segments")):
        pairs = output / f"{kind}.index.json"
        given: dict[str, object] = {
            "--config": "configs/toy/wan_labels.yaml",
            "--trainer.default_root_dir": output / "judging" / f"{kind}-{granularity}",
            "--trainer.callbacks.ShardWriter.output": output / f"labels-{kind}-{granularity}",
            "--model.judge.pairs": pairs,
            "--model.granularity": granularity,
            "--data.predict": pairs,
        }
        name = f"labels-{kind}-{granularity}"
        indexes = [pairs], [output / f"{name}.index.json"]
        yield Stage(name, ["predict", *flags(given)], *indexes, title=f"label {kind} pairs ({granularity})")


def _fit(output: Path, name: str, seed: int, size: Size) -> Stage:
    method = METHODS[name]
    whole = method.labels == "whole"
    labels = output / f"labels-{method.pairs}-{'whole' if whole else 'segments'}.index.json"
    given: dict[str, object] = {
        "--config": "configs/toy/wan_dense.yaml",
        "--seed_everything": seed,
        "--trainer.default_root_dir": output / name / str(seed),
        "--trainer.max_steps": size.steps,
        "--model.granularity": method.labels,
        "--data.train": output / f"{method.pairs}.index.json",
        "--data.train_labels": labels,
        "--data.label_fraction": method.share,
        "--data.seed": seed,
    }
    if whole:
        # The video's label decides alone: no share of decided segments is asked for, and ties are dropped.
        given |= {"--data.min_decided": 0.0, "--data.drop_whole_ties": "true"}
    indexes = [output / f"{method.pairs}.index.json", labels]
    title = f"fit {method.title}, seed {seed}"
    return Stage(f"fit-{name}-{seed}", ["fit", *flags(given)], indexes, [output / name / str(seed)], title=title)


def _sample(output: Path, name: str, seed: int, size: Size) -> Stage:
    given: dict[str, object] = {
        "--config": "configs/toy/wan_sample.yaml",
        "--trainer.default_root_dir": output / "sampling" / name / str(seed),
        "--trainer.callbacks.VideoFolderWriter.folder": _samples_of(output, name, seed),
        "--model.seed": seed,
        "--data.file": output / "test.txt",
        "--data.num_samples": size.samples,
    }
    reads = [output / "test.txt"]
    if name != BASE:
        given["--model.policy.adapter"] = output / name / str(seed) / "exports" / "last"
        reads.append(output / name / str(seed) / "exports" / "last")
    title = f"sample from {METHODS[name].title if name in METHODS else 'the base model'}, seed {seed}"
    samples = [_samples_of(output, name, seed)]
    return Stage(f"sample-{name}-{seed}", ["predict", *flags(given)], reads, samples, title=title)


def _samples_of(output: Path, name: str, seed: int) -> Path:
    return output / "samples" / name / str(seed)


def run_study(output: Path, seeds: Sequence[int], size: Size, jobs: int = 1) -> None:
    """Run the study; prints the table and writes `study.md` and `study.png`.

    Args:
        output: the study's folder; what an interrupted study has done there stays.
        seeds: of training and sampling.
        size: numbers of pairs, prompts and steps.
        jobs: how many stages run side by side.

    Raises:
        StageError: a stage failed.
        StoppedError: a signal stopped it.
    """
    console = Console()
    stages = study_stages(output, seeds, size)
    seconds = run_stages(stages, output, jobs=jobs, folder=ROOT, console=console)
    commands = [stage.line for stage in stages]
    write_json(output / MARKER, {"seeds": list(seeds), "commands": commands, "seconds": seconds})
    titles = {BASE: "the base model", **{name: method.title for name, method in METHODS.items()}}
    table = motion_table(
        {title: [score_folder(_samples_of(output, name, seed)) for seed in seeds] for name, title in titles.items()}
    )
    (output / "study.md").write_text(table.markdown(), encoding="utf-8")
    # Pictures are of the first seed; the table is of all.
    folders = {title: _samples_of(output, name, seeds[0]) for name, title in titles.items()}
    names = sorted(path.name for path in folders["the base model"].glob("*.mp4"))
    (output / "study.png").write_bytes(samples_picture(folders, one_of_each_speed(names)))
    table.show(wide_console())
    console.print(f"The table in Markdown: {output / 'study.md'}; pictures: {output / 'study.png'}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study from the command line; the exit status is 1 when a stage failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.toy.study", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--output", type=Path, default=Path("runs/study"), help="the study's folder; an interrupted study in it goes on"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of training and sampling")
    default = Size()
    for name in ("pairs", "prompts", "samples", "steps"):
        parser.add_argument(f"--{name}", type=int, default=getattr(default, name), help=f"({getattr(default, name)})")
    parser.add_argument("--jobs", type=int, default=1, help="stages that run side by side (1)")
    options = parser.parse_args(argv)

    def run() -> None:
        size = Size(options.pairs, options.prompts, options.samples, options.steps)
        run_study(from_root(options.output), options.seeds, size, options.jobs)

    return exit_status(run)


if __name__ == "__main__":
    sys.exit(main())
