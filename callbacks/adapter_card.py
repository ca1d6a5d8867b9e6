"""The card of an export: a README.md that says of what model, by what method and from what data it was made."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from lightning.pytorch import Trainer

from callbacks.metrics.throughput import SPEED_METRICS
from datamodules.stream.planned_data import PlannedData
from lightning_modules.preference import PreferenceModule
from lightning_modules.run_facts import run_facts

CARD = "README.md"
#: Under this key a checkpoint holds what the card of its export says of the run.
CARD_KEY = "vidpref_card"
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
    """

    steps: int
    data: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    scored_at: int = 0
    facts: Mapping[str, Any] = field(default_factory=run_facts)

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
        return RunNumbers(trainer.global_step, rows, self._scores, self._scored_at, self._facts)


def _data_rows(data: PlannedData[Any]) -> Iterator[tuple[str, str]]:
    paths = data.paths["train"]
    files = ", ".join([paths] if isinstance(paths, str) else map(str, paths or ()))
    index = data.index("train")
    yield "training data", f"{files}: {len(index)} samples, fingerprint {index.fingerprint}"
    if identity := data.identity():
        yield "of the data", _json(identity)


def complete_export(folder: Path, module: PreferenceModule, numbers: RunNumbers) -> None:
    """Write the card of an export, and give all of its files the permissions of every other file of the user.

    Args:
        folder: in which the policy was exported, whole.
        module: the method with its policy.
        numbers: what to say of the run.
    """
    (folder / CARD).write_text(card(folder, module, numbers), encoding="utf-8")
    # safetensors makes files that only their owner may read; the card has the permissions that the umask allows.
    mode = (folder / CARD).stat().st_mode & 0o777
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(mode)


def card(folder: Path, module: PreferenceModule, numbers: RunNumbers) -> str:
    """The card's Markdown, with the front matter that hubs read."""
    policy: Any = module.policy
    base, method = str(getattr(policy, "path", "an unnamed model")), type(module).__name__
    library = next((name for file, name in _ADAPTER_FILES.items() if (folder / file).exists()), None)
    front = {"base_model": base, "library_name": library or "transformers", "tags": ["vidpref", method]}
    rows = {
        "base": base,
        "method": method,
        "what trains": "a LoRA adapter" if library else "the model's own weights",
        **dict(_policy_rows(policy)),
        **{name: str(getattr(module, name)) for name in _SETTINGS if hasattr(module, name)},
        "term weights": ", ".join(f"{name} {weight:g}" for name, weight in module.weights.items()),
        "optimizer steps": str(numbers.steps),
        **numbers.data,
    }
    facts = numbers.facts
    code = facts["git_commit"]
    rows["command"] = f"`{shlex.join(['vidpref', *facts['command'][1:]])}`"
    rows["code"] = f"git commit {code}{' with local changes' if facts['git_dirty'] else ''}" if code else "no clone"
    rows["versions"] = ", ".join(f"{name} {version}" for name, version in facts["versions"].items() if version)
    parts = [f"---\n{yaml.safe_dump(front, sort_keys=False)}---", f"# {method} on {base}", _table("", "", rows)]
    if numbers.scores:
        scores = {name: f"{value:.4g}" for name, value in sorted(numbers.scores.items())}
        parts += [
            f"The last logged scores, after optimizer step {numbers.scored_at}:",
            _table("metric", "value", scores),
        ]
    return "\n\n".join(parts) + "\n"


def _policy_rows(policy: Any) -> Iterator[tuple[str, str]]:
    """The settings of the policy that decide what the export is used with."""
    lora = getattr(policy, "lora", None)
    if is_dataclass(lora) and not isinstance(lora, type):
        yield "LoRA", _json({name: value for name, value in asdict(lora).items() if value is not None})
    for name in ("adapter", "num_frames", "frame_fit", "prompt_template", "dtype"):
        value = getattr(policy, name, None)
        if value is not None:
            yield "started from the adapter" if name == "adapter" else name, _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value.replace("\n", "\\n")


def _table(left: str, right: str, rows: Mapping[str, str]) -> str:
    lines = [f"| {left} | {right} |", "|---|---|"]
    lines += [f"| {name} | {text.replace('|', chr(92) + '|')} |" for name, text in rows.items()]
    return "\n".join(lines)
