"""The record of a run: configuration, git commit and versions, in its folder, its loggers and its checkpoints."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from callbacks.cli.checkpoint_io import whole_checkpoint
from callbacks.cli.former_names import current_class, current_key
from lightning_modules.run_facts import run_facts

#: Under this key a checkpoint holds the model, data and seed sections of the configuration that wrote it.
CONFIG_KEY = "vidpref_config"
RECORDED_SECTIONS = ("model", "data", "seed_everything")


class RunRecord(SaveConfigCallback):
    """Writes ``config.yaml`` and ``run.json`` (command, git commit, versions) once per start, into a folder of its own.

    The folder is the CSV or TensorBoard logger's version folder where there is one, else the next free
    ``<default_root_dir>/<verb>/version_N``: a rerun or another verb never meets the file of an earlier one. The same
    record goes to the other loggers as hyper-parameters, and the configuration into every checkpoint, so that a later
    start from that checkpoint can say what has changed since. The command line adds this callback by itself.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "save_to_log_dir": False})

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the record; Lightning calls this on rank 0 only, once."""
        folder = record_folder(trainer)
        folder.mkdir(parents=True, exist_ok=True)
        config = self.parser.dump(self.config, skip_none=False)
        (folder / self.config_filename).write_text(config)
        facts = run_facts()
        (folder / "run.json").write_text(json.dumps(facts, indent=2) + "\n")
        for logger in trainer.loggers:
            if isinstance(logger, CSVLogger):
                continue  # its hyper-parameters would go into this very folder
            logger.log_hyperparams({"config": yaml.safe_load(config), **facts})

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the configuration into the checkpoint, as plain types: checkpoints load with ``weights_only``."""
        config = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        checkpoint[CONFIG_KEY] = {name: config[name] for name in RECORDED_SECTIONS if name in config}


def record_folder(trainer: Trainer) -> Path:
    """The folder of this start's record, see `RunRecord`; it may not exist yet."""
    if isinstance(trainer.logger, CSVLogger | TensorBoardLogger):
        return Path(trainer.logger.log_dir)
    verb = str(trainer.state.fn.value) if trainer.state.fn is not None else "run"
    parent = Path(trainer.default_root_dir) / verb
    return next(folder for n in count() if not (folder := parent / f"version_{n}").exists())


def checkpoint_differences(path: Path, config: Mapping[str, Any]) -> list[str]:
    """What in `config` differs from the configuration that wrote the checkpoint, one line for each value.

    Args:
        path: a checkpoint file; one without a recorded configuration gives no lines.
        config: the current configuration as plain types, with the sections ``model``, ``data``, ``seed_everything``.
    """
    # Memory-mapped: the tensors of a fully fine-tuned model are not read for this.
    with whole_checkpoint(path):
        stored = torch.load(path, map_location="cpu", weights_only=True, mmap=True).get(CONFIG_KEY)
    if stored is None:
        return []
    # Former names of keys and classes, and modules that have moved, are no difference.
    stored_values = {current_key(key): _current_value(key, value) for key, value in _leaves(stored)}
    sections = {name: config[name] for name in RECORDED_SECTIONS if name in config}
    current_values = {key: _current_value(key, value) for key, value in _leaves(sections)}
    absent = "(absent)"
    return [
        f"{key}: {stored_values.get(key, absent)} in the checkpoint, {current_values.get(key, absent)} now"
        for key in sorted(stored_values.keys() | current_values.keys())
        if stored_values.get(key, absent) != current_values.get(key, absent)
    ]


def _current_value(key: str, value: Any) -> Any:
    """Classes by their short names: a file that moves is no difference."""
    return current_class(value) if key.endswith("class_path") and isinstance(value, str) else value


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every single value with its dotted key; `init_args` is left out of the key, as on the command line."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(inner, key if name == "init_args" else f"{key}.{name}".lstrip("."))
    else:
        yield key, value
