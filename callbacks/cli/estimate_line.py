"""The command line up to the point where weights would be loaded: the run that `vidpref estimate` looks at."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from callbacks.cli.command_line import VidprefCLI
from callbacks.estimate.checkpoint_facts import facts_of, write_checkpoint


class EstimateLine(VidprefCLI):
    """The command of a fit, of which everything is made and nothing is run; on one CPU, whatever the run is for.

    Args:
        arguments: `fit` and its options.
        scratch: a folder for what stands in for a published checkpoint's files.
    """

    #: The published checkpoint whose facts stood in for its files; None = the policy read its own.
    checkpoint_id: str | None = None

    def __init__(self, arguments: list[str], scratch: str) -> None:
        self._scratch = Path(scratch)
        super().__init__(arguments)

    def instantiate_classes(self) -> None:
        """Make everything; of a published checkpoint that is known, without its files."""
        model = self.config["fit"].get("model")
        path = None if model is None else model.get("init_args.policy.init_args.path")
        if path is not None and not Path(path).is_dir() and (facts := facts_of(str(path))) is not None:
            self.checkpoint_id = facts["id"]
            write_checkpoint(facts, self._scratch)
            model["init_args.policy.init_args.path"] = str(self._scratch)
        super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """A trainer that needs no other devices than every machine has, in the run's own precision."""
        devices: dict[str, Any] = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto"}
        return super().instantiate_trainer(**devices, **kwargs)

    def _run_subcommand(self, subcommand: str) -> None:
        """Run nothing."""

    @property
    def settings(self) -> Any:
        """The run's whole configuration."""
        return self.config["fit"]

    def precision(self) -> AbstractContextManager[Any]:
        """The context of a forward."""
        context: AbstractContextManager[Any] = self.trainer.precision_plugin.forward_context()
        return context
