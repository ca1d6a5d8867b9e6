"""Stages of the study of DenseDPO: commands that make pairs and labels, fit, sample and measure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.toy.commands import flags
from benchmarks.toy.dense.methods import BASE, LABELS, MATCHED, PAIRS, SECONDS, Method, Pairs, Size
from callbacks.cli.recipes.stage import PYTHON, Stage
from datamodules.toy_world.motion_world import FPS


@dataclass(frozen=True, slots=True)
class DenseStages:
    """Maker of the study's stages.

    Attributes:
        output: the study's folder.
        size: numbers of pairs, samples and steps.
        kinds: name -> how those pairs are made.
    """

    output: Path
    size: Size
    kinds: Mapping[str, Pairs] = field(default_factory=lambda: PAIRS)

    def pairs_index(self, name: str) -> Path:
        """The index of pairs."""
        return self.output / "pairs" / f"{name}.index.json"

    def measures(self, name: str) -> Path:
        """The measures of pairs, see `pair_measures`."""
        return self.output / "pairs" / f"{name}.measures.json"

    def labels_index(self, pairs: str, labels: str) -> Path:
        """The index of labels."""
        return self.output / "labels" / f"{pairs}-{labels}.index.json"

    def samples(self, name: str, seed: int, rate: float | None = None, seconds: int = SECONDS) -> Path:
        """The folder of videos."""
        return self.output / "samples" / _run(name, seed, rate, seconds)

    def scores(self, name: str, seed: int, rate: float | None = None, seconds: int = SECONDS) -> Path:
        """The measures of those videos, see `MotionScores`."""
        return self.output / "scores" / f"{_run(name, seed, rate, seconds)}.json"

    def seconds(self, method: Method) -> int:
        """The length of a method's videos, of pairs and of samples."""
        return self.kinds[method.pairs].seconds

    def data(self, methods: Mapping[str, Method]) -> list[Stage]:
        """Everything that methods train on: real videos, pairs, their measures and labels."""
        pairs = {method.pairs: self.kinds[method.pairs] for method in methods.values()}
        return [*self.videos(pairs), *self.pairs(pairs), *self.labels(methods)]

    def videos(self, pairs: Mapping[str, Pairs]) -> Iterator[Stage]:
        """Real videos of each length and number, and the prompts."""
        prepare = ["prepare", "toy-videos", str(self.output / "test"), "--split", "test"]
        command = [*prepare, "--num_videos", str(self.size.prompts)]
        made = [self.output / "test.index.json", self.output / "test.txt"]
        yield Stage("prompts", command, writes=made, title="choose prompts")
        for seconds, number in sorted({(kind.seconds, self._number(kind)) for kind in pairs.values()}):
            name = self._videos(seconds, number)
            prepare = ["prepare", "toy-videos", str(self.output / name), "--split", "train"]
            command = [*prepare, "--num_videos", str(number), "--seconds", str(seconds)]
            made = [self.output / f"{name}.index.json", self.output / f"{name}.txt"]
            yield Stage(name, command, writes=made, title=f"make {number} videos of {seconds} s")

    def pairs(self, pairs: Mapping[str, Pairs]) -> Iterator[Stage]:
        """Pairs of each kind from the real videos, and their measures."""
        for name, kind in pairs.items():
            videos = self.output / f"{self._videos(kind.seconds, self._number(kind))}.index.json"
            index = self.pairs_index(name)
            options: dict[str, object] = {
                "--config": "configs/toy/wan_pairs.yaml",
                "--trainer.default_root_dir": self.output / "making" / name,
                "--trainer.callbacks.ShardWriter.output": _shards(index),
                "--data.predict": videos,
            }
            if kind.eta:
                options["--model.eta"] = kind.eta
            command = ["predict", *flags(options)]
            yield Stage(f"pairs-{name}", command, [videos], [index], title=f"make {name} pairs")
            measure = [PYTHON, "-m", "benchmarks.toy.dense.pair_measures", str(index), str(self.measures(name))]
            yield Stage(f"measure-{name}", measure, [index], [self.measures(name)], title=f"measure {name} pairs")

    def labels(self, methods: Mapping[str, Method]) -> Iterator[Stage]:
        """The judge's labels for methods, each kind once."""
        kinds = {(method.pairs, method.labels) for method in methods.values() if method.labels}
        kinds |= {(pairs, "whole") for pairs, name in kinds if name == MATCHED}
        for pairs, name in sorted(kinds):
            index, written = self.pairs_index(pairs), self.labels_index(pairs, name)
            title = f"label {pairs} pairs ({name})"
            if name == MATCHED:
                whole, measures = self.labels_index(pairs, "whole"), self.measures(pairs)
                matched = [PYTHON, "-m", "benchmarks.toy.dense.matched_labels", str(whole), str(measures), str(written)]
                yield Stage(f"labels-{pairs}-{name}", matched, [whole, measures], [written], title=title)
                continue
            options: dict[str, object] = {
                "--config": "configs/toy/wan_labels.yaml",
                "--trainer.default_root_dir": self.output / "judging" / f"{pairs}-{name}",
                "--trainer.callbacks.ShardWriter.output": _shards(written),
                "--model.judge.pairs": index,
                "--model.granularity": LABELS[name].granularity,
                "--model.segment_seconds": LABELS[name].seconds,
                "--data.predict": index,
            }
            yield Stage(f"labels-{pairs}-{name}", ["predict", *flags(options)], [index], [written], title=title)

    def runs(
        self, methods: Mapping[str, Method], rates: Mapping[str, Sequence[float]], seeds: Sequence[int]
    ) -> list[Stage]:
        """The base model's measured samples, and each method's fit and measured samples at its rates, of every seed."""
        lengths = sorted({self.seconds(method) for method in methods.values()})
        stages: list[Stage] = []
        for seed in seeds:
            for seconds in lengths:
                stages += self.measured(BASE, None, seed, None, seconds)
        for seed in seeds:
            for name, method in methods.items():
                for rate in rates[name]:
                    stages.append(self.fit(name, method, seed, rate))
                    stages += self.measured(name, method, seed, rate, self.seconds(method))
        return stages

    def fit(self, name: str, method: Method, seed: int, rate: float) -> Stage:
        """A fit of a method at a learning rate."""
        folder, index = self._fit(name, seed, rate), self.pairs_index(method.pairs)
        options: dict[str, object] = {
            "--config": "configs/toy/wan_dense.yaml" if method.labels else "configs/toy/wan_sft.yaml",
            "--seed_everything": seed,
            "--trainer.default_root_dir": folder,
            "--trainer.max_steps": self.size.steps,
            "--model.optimizer.init_args.lr": f"{rate:g}",
            "--data.train": index,
            "--data.seed": seed,
        }
        reads = [index]
        if method.labels:
            labels = self.labels_index(method.pairs, method.labels)
            reads.append(labels)
            whole = method.labels == MATCHED or LABELS[method.labels].granularity == "whole"
            options |= {
                "--model.granularity": "whole" if whole else "segments",
                "--data.train_labels": labels,
                "--data.label_fraction": method.share,
                "--data.flip_labels": method.flip,
            }
            if whole:
                # The video's label decides alone: no share of decided segments is asked for, and ties are dropped.
                options |= {"--data.min_decided": "null", "--data.drop_whole_ties": "true"}
        if method.full:
            options |= {"--model.policy.lora": "null", "--trainer.callbacks.ReferenceModel.mode": "copy"}
        title = f"fit {method.title}, seed {seed}, rate {rate:g}"
        return Stage(f"fit-{_run(name, seed, rate)}", ["fit", *flags(options)], reads, [folder], title=title)

    def measured(
        self, name: str, method: Method | None, seed: int, rate: float | None, seconds: int
    ) -> tuple[Stage, Stage]:
        """Samples from a fit, or, without a method, from the base model; and their measures."""
        sample = self.sample(name, method, seed, rate, seconds)
        folder, scores = self.samples(name, seed, rate, seconds), self.scores(name, seed, rate, seconds)
        command = [PYTHON, "-m", "benchmarks.toy.dense.scores", str(folder), "--measures", str(scores)]
        title = f"measure samples{sample.title.removeprefix('sample')}"
        return sample, Stage(f"score-{_run(name, seed, rate, seconds)}", command, [folder], [scores], title=title)

    def sample(
        self, name: str, method: Method | None, seed: int, rate: float | None = None, seconds: int = SECONDS
    ) -> Stage:
        """Samples from a fit, or, without a method, from the base model."""
        folder, prompts = self.samples(name, seed, rate, seconds), self.output / "test.txt"
        options: dict[str, object] = {
            "--config": "configs/toy/wan_sample.yaml",
            "--trainer.default_root_dir": self.output / "sampling" / _run(name, seed, rate, seconds),
            "--trainer.callbacks.VideoFolderWriter.folder": folder,
            "--model.num_frames": round(seconds * FPS) + 1,
            "--model.seed": seed,
            "--data.file": prompts,
            "--data.num_samples": self.size.samples,
        }
        reads: list[Path] = [prompts]
        title = f"the base model, {seconds} s"
        if method is not None and rate is not None:
            trained = self._fit(name, seed, rate) / "exports" / "last"
            options["--model.policy.weights" if method.full else "--model.policy.adapter"] = trained
            reads.append(trained)
            title = f"{method.title}, rate {rate:g}"
        return Stage(
            f"sample-{_run(name, seed, rate, seconds)}",
            ["predict", *flags(options)],
            reads,
            [folder],
            title=f"sample from {title}, seed {seed}",
        )

    def _fit(self, name: str, seed: int, rate: float) -> Path:
        return self.output / "fits" / _run(name, seed, rate)

    def _number(self, kind: Pairs) -> int:
        return max(1, round(self.size.pairs * kind.share))

    def _videos(self, seconds: int, number: int) -> str:
        return f"videos-{number}x{seconds}"


def _run(name: str, seed: int, rate: float | None, seconds: int = SECONDS) -> str:
    """The name of a fit or of samples."""
    length = "" if seconds == SECONDS else f"-{seconds}s"
    return f"{name}{'' if rate is None else f'-{rate:g}'}-seed{seed}{length}"


def _shards(index: Path) -> str:
    return str(index).removesuffix(".index.json")
