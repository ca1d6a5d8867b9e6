"""The card of an export: a README.md that says of what model, by what method and from what data it was made."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]
from lightning.pytorch import Trainer
from lightning.pytorch.cli import SaveConfigCallback

from callbacks.base_licence import base_licence
from callbacks.card_scores import BenchmarkScore
from callbacks.card_settings import changed_settings
from callbacks.metrics.throughput import SPEED_METRICS
from callbacks.secrets_in_text import without_secrets
from datamodules.stream.planned_data import PlannedData
from lightning_modules.preference import PreferenceModule
from lightning_modules.run_facts import run_facts

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CARD = "README.md"
#: Under this key a checkpoint holds what the card of its export says of the run.
CARD_KEY = "vidpref_card"
#: Under this key the card of a policy that was trained on averaged tokens has the sides of the squares.
TOKEN_POOLING = "token_pooling"  # noqa: S105  # no secret
#: A module's settings that a card names where it has them.
_SETTINGS = ("beta", "rejected_weight", "irrelevant_weight", "alpha", "granularity", "form", "error_of")
_ADAPTER_FILES = {"adapter_config.json": "peft", "pytorch_lora_weights.safetensors": "diffusers"}


@dataclass(frozen=True, slots=True)
class RunNumbers:
    """What a card says of the run itself; a run's checkpoints hold it, for an export that is made later.

    Attributes:
        steps: optimizer steps so far.
        data: what it was trained on, by name ("training data").
        scores: the last logged metrics.
        scored_at: the optimizer step after which they were logged.
        facts: command, code and versions of the run, as `run_facts` gives them.
        settings: those that are not the defaults, see `changed_settings`; None = not recorded.
    """

    steps: int
    data: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    scored_at: int = 0
    facts: Mapping[str, Any] = field(default_factory=run_facts)
    settings: Mapping[str, Any] | None = None

    @classmethod
    def from_checkpoint(cls, checkpoint: Mapping[str, Any]) -> RunNumbers:
        """What a checkpoint's card says; of one that has none, the steps."""
        return cls(checkpoint["global_step"], **checkpoint.get(CARD_KEY, {}))

    def to_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the card to a checkpoint, in plain types; the steps are there."""
        checkpoint[CARD_KEY] = {name: value for name, value in asdict(self).items() if name != "steps"}


class RunScores:
    """The metrics for a run's card: those of the last validation, or of training where there was none."""

    def __init__(self) -> None:
        self._scores: dict[str, float] = {}
        self._scored_at = 0
        self._facts: dict[str, Any] | None = None
        self._settings: dict[str, Any] | None = None

    def restore(self, numbers: RunNumbers) -> None:
        """Take over what a checkpoint holds."""
        self._scores, self._scored_at = dict(numbers.scores), numbers.scored_at

    def update(self, trainer: Trainer, prefix: Literal["train/", "val/"]) -> None:
        """Take the metrics that a trainer holds now, but for those of speed; none = leave them as they are."""
        logged = {name: float(value) for name, value in trainer.callback_metrics.items() if name not in SPEED_METRICS}
        if scores := {name: value for name, value in logged.items() if name.startswith(prefix)}:
            self._scores, self._scored_at = scores, trainer.global_step

    def numbers(self, trainer: Trainer) -> RunNumbers:
        """What a card says of a run as it is now."""
        if not any(name.startswith("val/") for name in self._scores):
            self.update(trainer, "train/")
        data: Any = getattr(trainer, "datamodule", None)
        rows = dict(_data_rows(data)) if isinstance(data, PlannedData) else {}
        self._facts = self._facts or run_facts()
        if self._settings is None:
            callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
            records = [callback for callback in callbacks if isinstance(callback, SaveConfigCallback)]
            # A run that was started from Python has no configuration.
            self._settings = changed_settings(records[0].parser, records[0].config) if records else None
        return RunNumbers(trainer.global_step, rows, self._scores, self._scored_at, self._facts, self._settings)


def _data_rows(data: PlannedData[Any]) -> Iterator[tuple[str, str]]:
    paths = data.paths["train"]
    files = ", ".join([paths] if isinstance(paths, str) else map(str, paths or ()))
    index = data.index("train")
    yield "training data", f"{files}: {len(index)} samples, fingerprint {index.fingerprint}"
    if identity := data.identity():
        yield "of the data", _json(identity)


def complete_export(
    folder: Path,
    module: PreferenceModule,
    numbers: RunNumbers,
    scores: Sequence[BenchmarkScore] = (),
    api: HfApi | None = None,
) -> None:
    """Write the card of an export, and give all of its files the permissions of every other file of the user.

    Args:
        folder: in which the policy was exported, whole.
        module: the method with its policy.
        numbers: what to say of the run.
        scores: of benchmarks, measured with this export.
        api: the hub's client, asked for the licence of the base where it is not known here; None = no network.
    """
    (folder / CARD).write_text(card(folder, module, numbers, scores, api), encoding="utf-8")
    # safetensors makes files that only their owner may read; the card has the permissions that the umask allows.
    mode = (folder / CARD).stat().st_mode & 0o777
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(mode)


def card(
    folder: Path,
    module: PreferenceModule,
    numbers: RunNumbers,
    scores: Sequence[BenchmarkScore] = (),
    api: HfApi | None = None,
) -> str:
    """The card's Markdown, with the front matter that hubs read, and without secrets; see `complete_export`."""
    policy: Any = module.policy
    base, method = str(getattr(policy, "path", "an unnamed model")), type(module).__name__
    library = next((name for file, name in _ADAPTER_FILES.items() if (folder / file).exists()), None)
    front: dict[str, Any] = {"library_name": library or "transformers", "tags": ["vidpref", method]}
    if _is_hub_name(base):
        front = {"base_model": base, **front}
    # In plain form, for whoever asks the export: with other tokens it is another model.
    if getattr(policy, "pooled_tokens", None) is not None:
        front[TOKEN_POOLING] = policy.token_pooling.sides()
    rows = {
        "base": base,
        "licence of the base": base_licence(base, api),
        "method": method,
        "what trains": "a LoRA adapter" if library else "the model's own weights",
        **dict(_policy_rows(policy)),
        **{name: str(getattr(module, name)) for name in _SETTINGS if hasattr(module, name)},
        "term weights": ", ".join(f"{name} {weight:g}" for name, weight in module.weights.items()),
        "optimizer steps": str(numbers.steps),
        **numbers.data,
        **_fact_rows(numbers.facts),
    }
    parts = [f"---\n{yaml.safe_dump(front, sort_keys=False)}---", f"# {method} on {base}", _table("", "", rows)]
    parts += list(_score_parts(scores, numbers))
    if numbers.settings is None:
        parts.append("The settings of the run were not recorded.")
    else:
        settings = {
            name: "with its defaults" if value == {} else _json(value) for name, value in numbers.settings.items()
        }
        parts += ["Every setting that is not the default of these versions:", _table("setting", "value", settings)]
    return without_secrets("\n\n".join(parts) + "\n")


def card_token_pooling(folder: str | Path) -> dict[str, int] | None:
    """The sides of `TokenPooling` that the card of an export names; None = every token, or there is no such card.

    Args:
        folder: of the export, or anything else.
    """
    try:
        front = yaml.safe_load((Path(folder) / CARD).read_text(encoding="utf-8").split("---")[1])
    except (OSError, ValueError, IndexError, yaml.YAMLError):  # no export of ours
        return None
    sides = front.get(TOKEN_POOLING) if isinstance(front, dict) else None
    return dict(sides) if isinstance(sides, dict) else None


def _is_hub_name(base: str) -> bool:
    """Whether a base is a name on the hub: it refuses a card whose front matter names a folder as its base."""
    try:
        validate_repo_id(base)
    except HFValidationError:
        return False
    return "/" in base and not Path(base).exists()


def _fact_rows(facts: Mapping[str, Any]) -> dict[str, str]:
    """Command, code and versions of the run."""
    code = facts["git_commit"]
    return {
        "command": f"`{shlex.join(['vidpref', *facts['command'][1:]])}`",
        "code": f"git commit {code}{' with local changes' if facts['git_dirty'] else ''}" if code else "no clone",
        "versions": ", ".join(f"{name} {version}" for name, version in facts["versions"].items() if version),
    }


def _score_parts(scores: Sequence[BenchmarkScore], numbers: RunNumbers) -> Iterator[str]:
    """The scores of benchmarks with their intervals, and the metrics that the run logged."""
    if scores:
        yield "Scores of benchmarks, measured with these weights; in brackets the bootstrap interval:"
        lines = ["| benchmark | score | value | measured by |", "|---|---|---|---|"]
        for score in scores:
            ends = "no interval"
            if score.interval is not None and score.level is not None:
                ends = f"[{score.interval[0]:.4g}, {score.interval[1]:.4g}] at {score.level:.0%}"
            cells = (score.benchmark, score.address, f"{score.value:.4g} {ends}", score.protocol)
            lines.append(f"| {' | '.join(_cell(cell) for cell in cells)} |")
        yield "\n".join(lines)
    if numbers.scores:
        logged = {name: f"{value:.4g}" for name, value in sorted(numbers.scores.items())}
        yield f"The last logged scores, after optimizer step {numbers.scored_at}:"
        yield _table("metric", "value", logged)


def _policy_rows(policy: Any) -> Iterator[tuple[str, str]]:
    """The settings of the policy that decide what the export is used with."""
    lora = getattr(policy, "lora", None)
    if is_dataclass(lora) and not isinstance(lora, type):
        yield "LoRA", _json({name: value for name, value in asdict(lora).items() if value is not None})
    for name in ("adapter", "num_frames", "frame_fit", "pooled_tokens", "prompt_template", "dtype"):
        value = getattr(policy, name, None)
        if value is not None:
            yield "started from the adapter" if name == "adapter" else name, _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value.replace("\n", "\\n")


def _table(left: str, right: str, rows: Mapping[str, str]) -> str:
    lines = [f"| {left} | {right} |", "|---|---|"]
    lines += [f"| {name} | {_cell(text)} |" for name, text in rows.items()]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """A text within a table's row."""
    return text.replace("|", r"\|").replace("\n", " ")
