"""Methods of the study of VistaDPO, and the commands that make data, fit, and measure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.toy.commands import flags
from benchmarks.toy.vista.conditions import BALANCED, CHECKPOINT, NATURAL, NUM_FRAMES
from callbacks.cli.recipes.stage import PYTHON, Stage

BASE = "base"
#: Plain DPO makes so many times the steps of VistaDPO in the same time, as it scores one view of a sample and not six;
#: measured on the shipped checkpoint, steps of 16 samples on one core, with the reference's pass.
EQUAL_COMPUTE = 5


@dataclass(frozen=True, slots=True)
class Method:
    """Method of the study, one line of a table.

    Attributes:
        title: its name in the table.
        config: of configs/toy, without its ending.
        options: flags of its fit, beside those of every fit.
        data: name of the rows that it trains on, of `DATA`.
        test: name of the videos on which it is measured, of `TESTS`.
        steps: its optimizer steps, as a multiple of the study's.
        num_frames: frames per view, of training and measuring.
        base: name of the base model that it begins from, of `BASES`; "" = the shipped checkpoint.
        rate_of: the method whose learning rate it takes; "" = it is tuned itself.
        fit_of: the method whose fit is measured, on other videos; "" = it has a fit of its own. A method without
            `config` and without this is a base model.
        verdicts: whether it is also measured on yes-or-no questions that sentences answer.
    """

    title: str
    config: str = "vista"
    options: Mapping[str, object] = field(default_factory=dict)
    data: str = "natural"
    test: str = "balanced"
    steps: int = 1
    num_frames: int = 4
    base: str = ""
    rate_of: str = ""
    fit_of: str = ""
    verdicts: bool = False

    @property
    def is_base(self) -> bool:
        """Whether nothing is fitted."""
        return not self.config


#: Name -> flags of `prepare toy`; "natural" follows the prior.
DATA: dict[str, Mapping[str, object]] = {"natural": {}, "random": {"--errors.wrong": 0.5}}
TESTS: dict[str, Mapping[str, object]] = {"balanced": {}}
#: Flags of `prepare toy` for other base models: the videos that they are tuned on, as configs/toy/settle.yaml has them,
#: and the rows of their conditions, as those that are shipped.
BASE_DATA: Mapping[str, Mapping[str, object]] = {
    "settle": {
        "--split": "pretrain", "--num_videos": 1000, "--mixture.other_video": 0.6, "--mixture.questions": 6,
        "--seed": 1,
    },
    "natural": {"--split": "val", "--num_videos": 160, "--seed": 900},
    "balanced": {"--split": "val", "--num_videos": 160, "--prior": 0.5, "--seed": 901},
}  # fmt: skip

#: The core table.
METHODS: dict[str, Method] = {
    "sft": Method("SFT", "sft"),
    "dpo": Method("plain DPO, equal steps", "dpo"),
    "dpo-compute": Method("plain DPO, equal compute", "dpo", steps=EQUAL_COMPUTE),
    "vista": Method("VistaDPO"),
}
CONTROLS: dict[str, Method] = {
    "dpo-random": Method("plain DPO, chosen and rejected at random", "dpo", data="random", rate_of="dpo"),
    "vista-random": Method("VistaDPO, chosen and rejected at random", data="random", rate_of="vista"),
}


@dataclass(frozen=True, slots=True)
class Size:
    """Size of the study.

    Attributes:
        rows: preference rows that are trained on, one a video.
        videos: videos on which a policy is measured, each with four facts.
        steps: optimizer steps of a fit, of 16 rows each.
    """

    rows: int = 2048
    videos: int = 300
    steps: int = 256

    def __post_init__(self) -> None:
        for name in ("rows", "videos", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 or more")


@dataclass(frozen=True, slots=True)
class VistaStages:
    """Maker of the study's stages.

    Attributes:
        output: the study's folder.
        size: numbers of rows, videos and steps.
        data: name -> flags of `prepare toy` for rows to train on.
        tests: likewise for videos to measure on.
        bases: name -> flags of `prepare toy` for the videos that another base model is tuned on.
    """

    output: Path
    size: Size
    data: Mapping[str, Mapping[str, object]] = field(default_factory=lambda: DATA)
    tests: Mapping[str, Mapping[str, object]] = field(default_factory=lambda: TESTS)
    bases: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def size_json(self) -> dict[str, int]:
        """The sizes, for the record."""
        return asdict(self.size)

    def train_index(self, method: Method, seed: int) -> Path:
        """The index of the rows that a method trains on."""
        return self._index(f"{method.data}-{seed}")

    def test_index(self, test: str, seed: int) -> Path:
        """The index of the videos that measure."""
        return self._index(f"test-{test}-{seed}")

    def _index(self, name: str) -> Path:
        return self.output / "data" / f"{name}.index.json"

    def adapter(self, name: str, method: Method, seed: int, rate: float) -> Path:
        """The folder of the export of a method's fit."""
        return self.output / "fits" / run_name(method.fit_of or name, seed, rate) / "exports" / "last"

    def checkpoint(self, base: str) -> Path:
        """A base model by its name; "" = the shipped one."""
        return self.output / "bases" / base / "exports" / "last" if base else CHECKPOINT

    def scores(self, name: str, seed: int, rate: float | None) -> Path:
        """The file of a run's measures."""
        return self.output / "scores" / f"{run_name(name, seed, rate)}.json"

    def prepared(self, methods: Mapping[str, Method], seeds: Sequence[int]) -> Iterator[Stage]:
        """The rows that methods train on, and the videos that measure them."""
        for seed in seeds:
            fitted = [method for method in methods.values() if not method.is_base]
            for name in sorted({method.data for method in fitted}):
                given: dict[str, object] = {"--split": "train", "--num_videos": self.size.rows, **self.data[name]}
                yield self._prepare(f"{name}-{seed}", given | {"--seed": seed})
            for name in sorted({method.test for method in methods.values()}):
                # Rows as those that are trained on, of other videos, and balanced.
                given = {"--split": "val", "--num_videos": self.size.videos, "--prior": 0.5, **self.tests[name]}
                yield self._prepare(f"test-{name}-{seed}", given | {"--seed": seed})

    def _prepare(self, name: str, given: Mapping[str, object]) -> Stage:
        command = ["prepare", "toy", str(self.output / "data" / name), *flags(given)]
        return Stage(f"data-{name}", command, writes=[self._index(name)], title=f"make {name} videos")

    def based(self, methods: Mapping[str, Method]) -> Iterator[Stage]:
        """Base models of other numbers of frames or other texts, and their conditions.

        Each is the shipped one, tuned once more as it was last, and is measured on rows made as the shipped ones.
        """
        frames = {method.base: method.num_frames for method in methods.values() if method.base}
        for given in {str(self.bases[name]): self.bases[name] for name in frames}.values():
            for kind, options in BASE_DATA.items():
                yield self._prepare(_of_flags(kind, given), {**options, **given})
        for name, num_frames in frames.items():
            settle, natural, balanced = (self._index(_of_flags(kind, self.bases[name])) for kind in BASE_DATA)
            root = self.output / "bases" / name
            fit: dict[str, object] = {
                "--config": "configs/toy/settle.yaml",
                "--seed_everything": 0,
                "--trainer.default_root_dir": root,
                "--trainer.enable_progress_bar": "false",
                "--model.policy.path": CHECKPOINT,
                "--model.policy.num_frames": num_frames,
                "--data.num_frames": num_frames,
                "--data.train": settle,
            }
            title = f"tune the base model {name}"
            yield Stage(f"base-{name}", ["fit", *flags(fit)], [settle, CHECKPOINT], [root / "exports"], title=title)
            yield self.conditions(name, num_frames, natural, balanced)

    def conditions(
        self, base: str = "", num_frames: int = NUM_FRAMES, natural: Path = NATURAL, balanced: Path = BALANCED
    ) -> Stage:
        """The conditions of a base model, into the study's folder.

        Args:
            base: its name; "" = the shipped checkpoint.
            num_frames: frames per view.
            natural: the index of rows at the prior.
            balanced: the index of balanced rows.
        """
        checkpoint, written = self.checkpoint(base), self.conditions_file(base)
        options = {"--num-frames": num_frames, "--natural": natural, "--balanced": balanced, "--output": written}
        command = [PYTHON, "-m", "benchmarks.toy.vista.conditions", str(checkpoint), *flags(options)]
        name, title = ("conditions", "the conditions") if not base else (f"conditions-{base}", f"conditions of {base}")
        return Stage(name, command, [checkpoint, natural, balanced], [written], title=f"check {title}")

    def conditions_file(self, base: str = "") -> Path:
        """The file of a base model's conditions."""
        return self.output / (f"conditions-{base}.json" if base else "conditions.json")

    def fit(self, name: str, method: Method, seed: int, rate: float) -> Stage:
        """A method's fit."""
        run = run_name(name, seed, rate)
        root, train = self.output / "fits" / run, self.train_index(method, seed)
        options: dict[str, object] = {
            "--config": f"configs/toy/{method.config}.yaml",
            "--seed_everything": seed,
            "--trainer.default_root_dir": root,
            "--trainer.max_epochs": -1,
            "--trainer.max_steps": self.size.steps * method.steps,
            "--trainer.enable_progress_bar": "false",
            "--model.optimizer.lr": f"{rate:g}",
            "--model.policy.num_frames": method.num_frames,
            "--data.num_frames": method.num_frames,
            "--data.train": train,
            # No validation: the measures are another command's.
            "--data.val": "null",
            "--data.seed": seed,
        }
        if method.config == "sft":
            del options["--data.val"]
        reads = [train]
        if method.base:
            options["--model.policy.path"] = self.checkpoint(method.base)
            reads.append(self.checkpoint(method.base))
        command = ["fit", *flags(options | dict(method.options))]
        return Stage(
            f"fit-{run}", command, reads, [root / "exports"], title=f"fit {method.title}, seed {seed}, {rate:g}"
        )

    def measure(self, name: str, method: Method, seed: int, rate: float | None, criterion: bool = False) -> Stage:
        """The measures of a fit, or of the base model where there is no rate.

        Args:
            name: of the run.
            method: how many frames, and which videos.
            seed: of fit and videos.
            rate: of the fit; None = the base model.
            criterion: only what chooses learning rates.
        """
        run, videos, written = (
            run_name(name, seed, rate),
            self.test_index(method.test, seed),
            self.scores(name, seed, rate),
        )
        command = [PYTHON, "-m", "benchmarks.toy.vista.scores", str(videos), str(written)]
        command += ["--num-frames", str(method.num_frames), *(["--criterion"] if criterion else [])]
        command += ["--verdicts"] if method.verdicts else []
        reads = [videos]
        if rate is not None:
            reads.append(self.adapter(name, method, seed, rate))
            command += ["--adapter", str(reads[-1])]
        if method.base:
            reads.append(self.checkpoint(method.base))
            command += ["--checkpoint", str(reads[-1])]
        return Stage(f"measure-{run}", command, reads, [written], title=f"measure {method.title}, seed {seed}")


def _of_flags(kind: str, given: Mapping[str, object]) -> str:
    """Name of a base model's data: bases that differ in their number of frames alone share it."""
    return "-".join([kind, *(f"{flag.strip('-')}-{value}" for flag, value in given.items())])


def run_name(name: str, seed: int, rate: float | None) -> str:
    """Name of a run's files."""
    return f"{name}-{seed}" if rate is None else f"{name}-{seed}-{rate:g}"
