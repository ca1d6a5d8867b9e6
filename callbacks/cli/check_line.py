"""The command line up to the point where the trainer would start: what `vidpref check` looks at."""

from __future__ import annotations

from functools import partial
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy

from callbacks.cli.command_line import VidprefCLI
from callbacks.cli.config_errors import error_message
from callbacks.pass_check import check_pass
from callbacks.run_check import RunCheck, check_run
from datamodules.stream.planned_data import PlannedData
from lightning_modules.policies.sharding import check_shardable


class CheckLine(VidprefCLI):
    """The command up to the point where the trainer would start; on one CPU, whatever the run is for.

    Args:
        arguments: the verb that is checked, and its own arguments.
        scratch: a folder in which a benchmark may begin its files.
    """

    #: The faults of the parts that could not be made, else of the run.
    check: RunCheck
    #: A benchmark's own output, which is looked at but not written.
    output: str | None = None

    def __init__(self, arguments: list[str], scratch: str) -> None:
        self._scratch = scratch
        super().__init__(arguments)

    def instantiate_classes(self) -> None:
        """Make everything; where a part refuses its settings, the faults of all parts."""
        self._set_output()
        try:
            super().instantiate_classes()
        except (ValueError, OSError) as error:
            self.check = RunCheck([error_message(error)])
            self._check_parts()

    def _set_output(self) -> None:
        """Let a benchmark begin its files in a folder that is left behind; its own is looked at."""
        settings = self.config[self.config["subcommand"]]
        model = settings.get("model")
        if self.config["subcommand"] == "test" and model is not None and model.get("init_args.output") is not None:
            self.output = str(model["init_args.output"])
            model["init_args.output"] = self._scratch

    def _check_parts(self) -> None:
        """Make model, data and trainer each by itself, so that one's fault does not hide another's."""
        config, parser = self.config[self.config["subcommand"]], self._parser(self.config["subcommand"])
        faults, sections = [], ("model", "data", "trainer")
        for section in sections:
            alone = config.clone()
            for other in sections:
                if other != section:
                    alone.pop(other, None)
            try:
                parts = parser.instantiate_classes(alone)
                if section == "data" and isinstance(parts.data, PlannedData):
                    faults += index_faults(parts.data)
            except (ValueError, OSError) as error:
                faults.append(error_message(error))
        self.check.faults = faults or self.check.faults

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """A trainer that needs no other devices than every machine has."""
        devices: dict[str, Any] = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto"}
        return super().instantiate_trainer(**devices, precision="32-true", **kwargs)

    def _run_subcommand(self, subcommand: str) -> None:
        """Check it."""
        if hasattr(self, "check"):
            return
        if subcommand == "fit":
            ranks = number_of_ranks(self.config[subcommand]["trainer"])
            self.check = check_run(self.trainer, self.model, self.datamodule, self.checkpoint(), ranks)
        else:
            refusal = RunCheck()
            if before := getattr(self, f"before_{subcommand}", None):
                refusal.attempt(before)
            self.check = check_pass(self.trainer, self.model, self.datamodule, subcommand, self.output)  # type: ignore[arg-type]
            self.check.faults[:0] = refusal.faults
        # The trainer of the check has another strategy than the run's.
        if isinstance(self.config_init[subcommand]["trainer"].strategy, ModelParallelStrategy):
            self.check.attempt(partial(check_shardable, getattr(self.model, "policy", None)))


def index_faults(data: Any) -> list[str]:
    """What is wrong with the indexes and shards of a data module, as far as no model needs to be asked."""
    faults: list[str] = []
    for split in ("train", "val", "predict"):
        if data.paths.get(split) is not None:
            try:
                data.index(split)
            except ValueError as error:
                faults.append(str(error))
    return faults


def number_of_ranks(trainer: Any) -> int:
    """The processes that a configuration asks for; "auto" is taken for one machine's one."""
    devices = trainer["devices"]
    count = len(devices) if isinstance(devices, list) else int(devices) if str(devices).isdigit() else 1
    return max(1, count) * int(trainer["num_nodes"] or 1)
