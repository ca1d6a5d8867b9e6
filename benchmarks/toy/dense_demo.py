"""Second half of the demo: pairs made and labelled, a short DenseDPO fit, and samples before and after."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.report.page import Section
from benchmarks.toy.commands import ROOT, flags
from benchmarks.toy.dense.pictures import pair_picture, samples_picture
from benchmarks.toy.dense.scores import motion_table, score_folder, spread
from callbacks.cli.recipes.stage import Stage
from datamodules.shards.index import Index

#: Number of videos that become pairs in the demo, and of prompts that are sampled.
VIDEOS = {"live": 8, "prompts": 24}
#: The compared runs, in the order of the table.
TITLES = {"base": "the base model", "dense": "DenseDPO"}
SHIPPED = Path("datamodules/toy_world/pairs")
STUDY = ROOT / "docs" / "results" / "dense.json"


def dense_stages(output: Path, seed: int, videos: Mapping[str, int] = VIDEOS) -> list[Stage]:
    """The commands, in order.

    Args:
        output: the folder of this half.
        seed: of videos, pairs, training and samples.
        videos: numbers as in `VIDEOS`.
    """
    options: dict[str, object] = {
        "--config": "configs/toy/wan_dense.yaml",
        "--seed_everything": seed,
        "--trainer.default_root_dir": output / "fit",
        "--data.seed": seed,
    }
    # The fit reads pairs that come with the project: those of the demo are too few to learn from.
    fit = Stage("dense-fit", ["fit", *flags(options)], writes=[output / "fit"], title=f"fit {TITLES['dense']}")
    return [*_live_pairs(output, seed, videos["live"]), fit, *_samples(output, seed, videos["prompts"])]


def _live_pairs(output: Path, seed: int, number: int) -> Iterator[Stage]:
    """Real videos, two guided samples of each, and labels by the toy world's judge, which knows the truth."""
    real, pairs = output / "videos", output / "pairs"
    prepare = ["prepare", "toy-videos", str(real), "--split", "val", "--num_videos", str(number), "--seed", str(seed)]
    yield Stage("dense-videos", prepare, writes=[f"{real}.index.json"], title=f"make {number} real videos")
    guided: dict[str, object] = {
        "--config": "configs/toy/wan_pairs.yaml",
        "--trainer.default_root_dir": output / "guided",
        "--trainer.callbacks.ShardWriter.output": pairs,
        "--model.seed": seed,
        "--data.predict": f"{real}.index.json",
    }
    indexes = [f"{real}.index.json"], [f"{pairs}.index.json"]
    yield Stage("dense-pairs", ["predict", *flags(guided)], *indexes, title="turn them into pairs")
    judged: dict[str, object] = {
        "--config": "configs/toy/wan_labels.yaml",
        "--trainer.default_root_dir": output / "judged",
        "--trainer.callbacks.ShardWriter.output": output / "labels",
        "--model.judge.pairs": f"{pairs}.index.json",
        "--data.predict": f"{pairs}.index.json",
    }
    indexes = [f"{pairs}.index.json"], [f"{output / 'labels'}.index.json"]
    yield Stage("dense-labels", ["predict", *flags(judged)], *indexes, title="label every second of them")


def _samples(output: Path, seed: int, number: int) -> Iterator[Stage]:
    """The same prompts and noise for both models."""
    real = output / "prompts"
    prepare = ["prepare", "toy-videos", str(real), "--split", "test", "--num_videos", str(number), "--seed", str(seed)]
    yield Stage("dense-prompts", prepare, writes=[f"{real}.index.json", f"{real}.txt"], title="choose prompts")
    for method, title in TITLES.items():
        options: dict[str, object] = {
            "--config": "configs/toy/wan_sample.yaml",
            "--trainer.default_root_dir": output / "sampling" / method,
            "--trainer.callbacks.VideoFolderWriter.folder": output / "samples" / method,
            "--model.seed": seed,
            "--data.file": f"{real}.txt",
        }
        reads = [Path(f"{real}.txt")]
        if method != "base":
            options["--model.policy.adapter"] = output / "fit" / "exports" / "last"
            reads.append(output / "fit" / "exports" / "last")
        made = [output / "samples" / method]
        command = ["predict", *flags(options)]
        yield Stage(f"dense-sample-{method}", command, reads, made, title=f"sample from {title}")


def study_line(part: Path = STUDY) -> str:
    """What the study of three seeds found for the same method, beside which one short fit says little.

    Args:
        part: the study's part of the results page.
    """
    runs = (json.loads(part.read_text(encoding="utf-8"))["data"] if part.is_file() else {}).get("runs")
    if runs is None:
        return "The study has no fits to compare this with, see docs/results.md."
    base, seeds = runs["base"]["seeds"], runs["dense-all"]["seeds"]
    changes = {
        key: spread([seed[key] - before[key] for seed, before in zip(seeds, base, strict=True)], signs=True)
        for key in ("motion", "quality")
    }
    return (
        f"The study's DenseDPO with 1,920 pairs, mean change and each seed's (docs/results.md): motion "
        f"{changes['motion']}, quality {changes['quality']}."
    )


def dense_sections(output: Path) -> list[Section]:
    """Measure the samples and draw the pictures: motion and quality before and after, samples, a labelled pair.

    Raises:
        ValueError: a sampled video is missing.
    """
    folders = {title: output / "samples" / method for method, title in TITLES.items()}
    scores = {title: score_folder(folder) for title, folder in folders.items()}
    base = scores[TITLES["base"]]
    sections = [
        Section(
            "DenseDPO: videos before and after",
            "Motion is net displacement within a second, in pixels per frame; prompts name no speed. Quality is 1 "
            "minus the squared distance of frames from the nearest clean picture, over all videos, at the speeds of "
            "the base model's, and over those that are slower and faster than its median. " + study_line(),
            motion_table({title: [folder_scores.numbers(base)] for title, folder_scores in scores.items()}),
            samples_picture(folders, base.of_each_speed()),
            "Rows of frames: each model's videos of three prompts, of which the base model's is slow, medium and fast",
        )
    ]
    pairs, labels = (output / f"{name}.index.json" for name in ("pairs", "labels"))
    # A picture with one colour would show nothing: only where some pair has segments for either video.
    if any({1, -1} <= set(entry.facts["labels"]) for entry in Index.read(labels).entries):
        sections.append(
            Section(
                "A pair and its labels",
                "Two samples from one real video, noised part of the way, so that they share its motion.",
                png=pair_picture(pairs, labels),
                alt="Two rows of frames with a green or red bar under every second",
            )
        )
    return sections
