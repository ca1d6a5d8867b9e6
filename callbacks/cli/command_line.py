"""``fit validate test predict``: LightningCLI with this project's defaults and messages."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import yaml
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from lightning.pytorch.utilities.model_helpers import is_overridden

from callbacks.bad_samples import BadSamples
from callbacks.cli.checkpoint_io import AtomicCheckpointIO
from callbacks.cli.class_names import import_config_classes
from callbacks.cli.config_errors import readable
from callbacks.cli.log_interval import LogInterval
from callbacks.cli.lost_processes import lost_process
from callbacks.cli.matmul_precision import MatmulPrecision
from callbacks.cli.named_items import address_by_name
from callbacks.cli.predict_part import add_part, hand_over, own_places
from callbacks.cli.progress import Progress
from callbacks.cli.run_record import RunRecord, checkpoint_differences
from callbacks.metrics.throughput import Throughput
from callbacks.recovery import CHECKPOINTS, Recovery
from callbacks.resume import Resume
from callbacks.run_check import check_run
from callbacks.stop_signals import STOPPED, StopSignals
from callbacks.writers.base import PredictWriter
from datamodules.shards.output_lock import OutputLock
from datamodules.user_files import user_file

TRAINER_DEFAULTS: dict[str, Any] = {
    # A run's folder: checkpoints/, exports/, and logs under a version folder of each start.
    "default_root_dir": "runs/unnamed",
    "log_every_n_steps": None,  # follows the run's length, see `LogInterval`
    # Our loaders know their rank; Lightning would wrap validation loaders in a sampler of its own.
    "use_distributed_sampler": False,
    # Tensors made in inference mode break the first training forward of a sharded model.
    "inference_mode": False,
}


class VidprefParser(LightningArgumentParser):
    """The parser, with error messages that name the key, and flags that are written out."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # An abbreviated flag would be a typo that trains.
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print what is wrong and how to see the options, and end with exit status 2."""
        if not self.exit_on_error:  # a parser of one class within ours: its message becomes part of the whole
            super().error(message, ex)
        subparser = getattr(ex, "subcommand_parser", None) or self
        keys = [action.dest for action in subparser._actions]
        sys.stderr.write(f"{readable(message, keys)}\n\nFor the accepted options: vidpref <verb> --help, ")
        sys.stderr.write("vidpref <verb> --model.help <Class>; for the merged configuration: --print_config\n")
        raise SystemExit(2)


class VidprefCLI(LightningCLI):
    """Command line of the trainer's verbs: model and data are any class by name, the seed is fixed unless given.

    Optimizers belong to the model.

    What every run gets without saying so: a recovery checkpoint in ``<default_root_dir>/checkpoints`` (`Recovery`; a
    `ModelCheckpoint` with `save_last` replaces it), checkpoints written whole or not at all (`AtomicCheckpointIO`), an
    end in order after SIGTERM (`StopSignals`), a CSV logger with a new version folder for each start, the record of
    what ran (`RunRecord`), a restart that goes on at the very place (`Resume`), `Throughput`, `Progress`, the list of
    what was skipped (`BadSamples`), TF32 for float32 adapters on a GPU (`MatmulPrecision`), and a log of every tenth
    step, or more of them in a short run (`LogInterval`).
    """

    def __init__(self, args: list[str] | None = None) -> None:
        import_config_classes()
        super().__init__(
            save_config_callback=RunRecord,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=0,
            parser_class=VidprefParser,
            parser_kwargs={"prog": "vidpref", "description": "Train video models on preferences"},
            auto_configure_optimizers=False,
            args=args,
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse `args`, or the command line; being called from Python is nothing to warn of."""
        assert args is None or isinstance(args, list)
        arguments = sys.argv[1:] if args is None else args
        for flag, value in pairwise([word for argument in arguments for word in argument.split("=", 1)]):
            if flag == "--config":
                user_file(value)
        self.config = parser.parse_args(with_nulls(arguments))
        own_folder_of_a_trial(self.config[self.config["subcommand"]]["trainer"])
        if self.config["subcommand"] == "predict":
            own_places(self.config["predict"])

    def _parse_ckpt_path(self) -> None:
        """Leave the configuration as the user gave it; Lightning would let a checkpoint's parameters beat the flags.

        What differs from the configuration in the checkpoint is listed once, so that it is no accident.
        """
        if (path := self.checkpoint()) is not None:
            current = yaml.safe_load(self.parser.dump(self.config, skip_none=False))[self.config["subcommand"]]
            report_differences(path, current)

    def checkpoint(self) -> Path | None:
        """The checkpoint that this start will read; None = there is none yet."""
        config = self.config[self.config["subcommand"]]
        return checkpoint_file(config.get("ckpt_path"), config["trainer"])

    @rank_zero_only
    def before_fit(self) -> None:
        """Say what the run will be, and refuse one that could not be made to its end, before weights are loaded.

        Rank 0 does it for all: it starts the others, or they wait for it.
        """
        check = check_run(self.trainer, self.model, self.datamodule, self.checkpoint())
        for fact in check.facts:
            rank_zero_info(fact)
        check.require_none()

    def before_test(self) -> None:
        """Refuse a module without a test, before weights are loaded."""
        if not is_overridden("test_step", self.model):
            raise ValueError(
                f"{type(self.model).__name__} has nothing to test; `vidpref test` takes a benchmark, see "
                "configs/benchmarks/, and `vidpref validate` the losses of a method"
            )

    def before_predict(self) -> None:
        """Refuse to compute what nobody writes."""
        if not _holds(self.trainer.callbacks, PredictWriter):  # type: ignore[attr-defined]
            raise ValueError(
                f"nothing would write what {type(self.model).__name__} predicts; add the configuration that does "
                "(for a method's reference scores --config configs/reference/write_cache.yaml)"
            )
        hand_over(self.config["predict"], self.trainer.callbacks)  # type: ignore[attr-defined]

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer, with the pieces that every run gets."""
        settings = self._get(self.config_init, "trainer", default={})
        logs = Path(settings["default_root_dir"] or ".") / str(self.subcommand)
        if self.subcommand == "test":
            # A benchmark's logs are beside its results.
            logs = Path(self._get(self.config, "model.init_args.output", default=logs))
        return super().instantiate_trainer(**default_pieces(settings, str(self.subcommand), logs), **kwargs)

    def _run_subcommand(self, subcommand: str) -> None:
        """Run it; where it fails because a worker or a rank is gone, the error says which."""
        try:
            with self._locked_output(subcommand):
                super()._run_subcommand(subcommand)
        except Exception as error:
            callbacks: list[Any] = self.trainer.callbacks  # type: ignore[attr-defined]
            if any(isinstance(callback, StopSignals) and callback.received is not None for callback in callbacks):
                # The other ranks have stopped while this one waited for them.
                raise SystemExit(STOPPED) from error
            lost = lost_process(error, getattr(self.trainer.strategy.launcher, "procs", ()))
            if lost is None or lost is error:
                raise
            raise lost from error

    def _locked_output(self, subcommand: str) -> AbstractContextManager[None]:
        """Rank 0's lock on what a fit or a benchmark writes; the writers of `predict` have their own."""
        folders = {"fit": self.trainer.default_root_dir, "test": getattr(self.model, "output", None)}
        folder = folders.get(subcommand)
        # Lightning sets the rank as an attribute of the function; 0, and None before it knows, are rank 0.
        if folder is None or getattr(rank_zero_only, "rank", None):
            return nullcontext()
        return OutputLock(folder, is_folder=True)

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        """Complete Lightning's parser: callbacks by name, and no table of results beside the benchmark's own."""
        # A private method, but the only place where the parser of one subcommand is at hand.
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        address_by_name(parser, "trainer.callbacks")
        if subcommand == "test":
            parser.set_defaults({"verbose": False})
        if subcommand == "predict":
            add_part(parser)
        return parser


def with_nulls(arguments: list[str]) -> list[str]:
    """Flags such as ``--model.policy.adapter null``, handed over as configurations.

    Through a flag the parser makes the text 'None' of a null that is meant for a text within a class.
    """
    words: list[str] = []
    for argument in arguments:
        words += [argument.removesuffix("=null"), "null"] if argument.endswith("=null") else [argument]
    for position, (flag, value) in enumerate(pairwise(words)):
        if value == "null" and flag.startswith(("--model.", "--data.")):
            # Two words for two, so that positions stay.
            words[position : position + 2] = ["--config", json.dumps({flag[2:]: None})]
    return words


def own_folder_of_a_trial(trainer: Any) -> None:
    """Within a wandb sweep, move the run to a folder of its own: another trial's checkpoint must not be resumed."""
    if "WANDB_SWEEP_ID" in os.environ and (trial := os.environ.get("WANDB_RUN_ID")):
        trainer["default_root_dir"] = f"{trainer['default_root_dir']}/{trial}"


def checkpoint_file(ckpt_path: Any, trainer: Mapping[str, Any]) -> Path | None:
    """The checkpoint that a start will read, or None: the file given, or the recovery one for ``last``."""
    if ckpt_path == "last":
        ckpt_path = recovery_folder(trainer) / "last.ckpt"
    return Path(ckpt_path) if ckpt_path and Path(ckpt_path).is_file() else None


@rank_zero_only
def report_differences(path: Path, config: Mapping[str, Any]) -> None:
    """Say on the error stream, once, what differs from the configuration that wrote a checkpoint."""
    differences = checkpoint_differences(path, config)
    if differences:
        lines = "".join(f"\n  {line}" for line in differences)
        sys.stderr.write(f"{path} was written with another configuration; the one given now is used:{lines}\n")


def recovery_folder(trainer: Mapping[str, Any]) -> Path:
    """The folder of a run's recovery checkpoint."""
    return Path(trainer["default_root_dir"] or ".") / CHECKPOINTS


def default_pieces(trainer: Mapping[str, Any], verb: str, logs: Path) -> dict[str, Any]:
    """The trainer's arguments that this project completes: callbacks, logger, plugins.

    Args:
        trainer: the instantiated ``trainer`` section of the configuration.
        verb: the subcommand.
        logs: the CSV logger's folder, in which each start has a version folder.
    """
    callbacks = _as_list(trainer["callbacks"])
    plugins = _as_list(trainer["plugins"])
    added: list[Callback] = []
    checkpoints = [callback for callback in callbacks if isinstance(callback, ModelCheckpoint)]
    for checkpoint in checkpoints:
        if checkpoint.dirpath is None:  # Lightning's choice is a new folder for each start, in which no start looks
            checkpoint.dirpath = str(recovery_folder(trainer).absolute())
    if trainer["enable_checkpointing"] is not False and not any(checkpoint.save_last for checkpoint in checkpoints):
        added.append(Recovery(str(recovery_folder(trainer))))
    if verb == "fit" and trainer["log_every_n_steps"] is None:
        added.append(LogInterval())
    if verb == "fit":
        added += [kind() for kind in (Resume, Throughput) if not _holds(callbacks, kind)]
    if trainer["enable_progress_bar"] is not False and not _holds(callbacks, ProgressBar):
        added.append(Progress())
    if not _holds(callbacks, BadSamples):
        added.append(BadSamples())
    if not _holds(callbacks, MatmulPrecision):
        added.append(MatmulPrecision())
    if not _holds(callbacks, StopSignals):
        added.append(StopSignals())
    if not _holds(plugins, CheckpointIO):
        plugins.append(AtomicCheckpointIO())
    # None and true ask for Lightning's default, TensorBoard or CSV by what is installed; false asks for none.
    logger = trainer["logger"]
    if logger is None or logger is True:
        logger = CSVLogger(logs, name="")
    return {"callbacks": callbacks + added, "plugins": plugins, "logger": logger}


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _holds(pieces: Iterable[Any], kind: type) -> bool:
    return any(isinstance(piece, kind) for piece in pieces)
