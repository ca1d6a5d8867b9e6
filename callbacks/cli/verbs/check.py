"""``check``: a run's configuration, data and disk, looked through on any machine."""

from __future__ import annotations

import sys
import tempfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from callbacks.run_check import RunCheck

USAGE = """usage: vidpref check [fit | validate | test | predict] --config <experiment>.yaml [--config ...] [flags]

Lists what the same `vidpref fit` would stumble over: the configuration, indexes and shard sizes, every text through the
policy's own tokenizer, the adapter's layers, the checkpoint it would go on from, disk space. Of another verb: indexes
or questions and their videos, texts, recorded predictions and replies, where the results go. It reads no weights and
needs no GPU; of the checkpoint's folder, config.json and the tokenizer's and processor's files are enough.
The exit status is 0, or 1 with a list of all faults.
"""
#: What can be checked; the first one where none is named.
VERBS = ("fit", "validate", "test", "predict")
#: So many faults are printed.
_LISTED = 100


def main(arguments: list[str]) -> int:
    """Check a run.

    Args:
        arguments: the verb, and another one with its arguments, or the arguments that `fit` would have.
    """
    if {"-h", "--help"} & set(arguments):
        print(USAGE, end="")
        return 0
    from callbacks.cli.verbs.trainer import quieten

    quieten()
    try:
        check = checked(arguments[1:])
    except SystemExit as end:
        if end.code != 2:
            raise
        return 1  # the parser has listed what is wrong with the configuration
    for fact in check.facts:
        print(fact)
    if not check.faults:
        print("no faults: this run can start")
        return 0
    sys.stdout.flush()
    sys.stderr.write(f"{len(check.faults)} fault{'s' * (len(check.faults) > 1)}:\n")
    sys.stderr.writelines(f"- {fault}\n" for fault in check.faults[:_LISTED])
    if more := len(check.faults) - _LISTED:
        sys.stderr.write(f"... and {more} more\n" if more > 0 else "")
    return 1


def checked(arguments: list[str]) -> RunCheck:
    """The check of the run that `vidpref fit`, or the verb that comes first, would make of these arguments."""
    from callbacks.cli.command_line import VidprefCLI
    from callbacks.cli.config_errors import error_message
    from callbacks.pass_check import check_pass
    from callbacks.run_check import RunCheck, check_run
    from datamodules.stream.planned_data import PlannedData

    class CheckCLI(VidprefCLI):
        """The command up to the point where the trainer would start; on one CPU, whatever the run is for."""

        check: RunCheck
        output: str | None = None

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
                model["init_args.output"] = scratch

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
                    made = parser.instantiate_classes(alone)
                    if section == "data" and isinstance(made.data, PlannedData):
                        faults += index_faults(made.data)
                except (ValueError, OSError) as error:
                    faults.append(error_message(error))
            self.check.faults = faults or self.check.faults

        def instantiate_trainer(self, **kwargs: Any) -> Any:
            """A trainer that needs no other devices than every machine has."""
            here: dict[str, Any] = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto"}
            return super().instantiate_trainer(**here, precision="32-true", **kwargs)

        def _run_subcommand(self, subcommand: str) -> None:
            """Check it."""
            if hasattr(self, "check"):
                return
            if subcommand == "fit":
                ranks = number_of_ranks(self.config[subcommand]["trainer"])
                self.check = check_run(self.trainer, self.model, self.datamodule, self.checkpoint(), ranks)
                return
            refusal = RunCheck()
            if before := getattr(self, f"before_{subcommand}", None):
                refusal.attempt(before)
            self.check = check_pass(self.trainer, self.model, self.datamodule, subcommand, self.output)  # type: ignore[arg-type]
            self.check.faults[:0] = refusal.faults

    with tempfile.TemporaryDirectory() as scratch:
        verb = [] if arguments and arguments[0] in VERBS else [VERBS[0]]
        return CheckCLI([*verb, *arguments]).check


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
