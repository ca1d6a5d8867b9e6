"""What the command completes: the checkpoint it will read, and the pieces that every trainer gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger

from callbacks.bad_samples import BadSamples
from callbacks.cli.checkpoint_io import AtomicCheckpointIO
from callbacks.cli.command_line import checkpoint_file, default_pieces, with_nulls
from callbacks.cli.log_interval import LogInterval, interval
from callbacks.cli.matmul_precision import MatmulPrecision
from callbacks.cli.progress import Progress
from callbacks.metrics.throughput import Throughput
from callbacks.recovery import Recovery
from callbacks.resume import Resume
from callbacks.stop_signals import StopSignals


def test_checkpoint_file(tmp_path: Path) -> None:
    trainer = {"default_root_dir": str(tmp_path)}
    assert checkpoint_file(None, trainer) is None
    assert checkpoint_file("last", trainer) is None
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/last.ckpt").touch()
    assert checkpoint_file("last", trainer) == tmp_path / "checkpoints/last.ckpt"
    assert checkpoint_file(tmp_path / "absent.ckpt", trainer) is None


# What the trainer gets

GIVEN: dict[str, Any] = {
    "callbacks": None, "plugins": None, "logger": None, "default_root_dir": "run", "enable_checkpointing": None,
    "enable_progress_bar": None, "log_every_n_steps": 10,
}  # fmt: skip


def kinds(pieces: list[Any]) -> list[type]:
    return [type(piece) for piece in pieces]


def test_default_pieces() -> None:
    pieces = default_pieces(GIVEN, "fit", Path("run/fit"))
    assert kinds(pieces["callbacks"]) == [
        Recovery, Resume, Throughput, Progress, BadSamples, MatmulPrecision, StopSignals,
    ]  # fmt: skip
    assert kinds(pieces["plugins"]) == [AtomicCheckpointIO]
    recovery = pieces["callbacks"][0]
    assert (recovery.minutes, recovery.every_n_steps, recovery.save_top_k) == (15.0, None, 0)
    assert Path(recovery.dirpath) == Path("run/checkpoints").absolute()
    assert isinstance(pieces["logger"], CSVLogger)
    assert default_pieces(GIVEN, "test", Path("other/out"))["logger"].log_dir == "other/out/version_0"


def test_the_log_interval_follows_the_run_unless_given() -> None:
    assert LogInterval in kinds(default_pieces({**GIVEN, "log_every_n_steps": None}, "fit", Path("run"))["callbacks"])
    assert LogInterval not in kinds(default_pieces(GIVEN, "fit", Path("run"))["callbacks"])
    steps = [1, 9, 12, 30, 99, 100, 5000, float("inf")]
    assert [interval(number) for number in steps] == [1, 1, 1, 3, 9, 10, 10, 10]


def test_given_pieces_are_kept_and_not_doubled() -> None:
    own: list[Any] = [
        ModelCheckpoint(dirpath="elsewhere", save_last=True),
        Resume(),
        Throughput(window=3),
        TQDMProgressBar(),
        BadSamples(),
        MatmulPrecision(),
        StopSignals(),
    ]
    writer = AtomicCheckpointIO()
    pieces = default_pieces({**GIVEN, "callbacks": own, "plugins": writer, "logger": False}, "fit", Path("run/fit"))
    assert pieces == {"callbacks": own, "plugins": [writer], "logger": False}
    quiet = {**GIVEN, "enable_checkpointing": False, "enable_progress_bar": False}
    assert kinds(default_pieces(quiet, "fit", Path("run/fit"))["callbacks"]) == [
        Resume,
        Throughput,
        BadSamples,
        MatmulPrecision,
        StopSignals,
    ]
    assert Throughput not in kinds(default_pieces(GIVEN, "validate", Path("run/validate"))["callbacks"])


def test_an_own_checkpoint_callback_lies_with_the_run_and_leaves_the_recovery_on() -> None:
    own = ModelCheckpoint(monitor="val/loss")
    assert own.dirpath is None, "for Lightning a new folder for each start, from which none would resume"
    callbacks = default_pieces({**GIVEN, "callbacks": own}, "fit", Path("run/fit"))["callbacks"]
    assert kinds(callbacks)[:2] == [ModelCheckpoint, Recovery]
    assert Path(own.dirpath or "") == Path("run/checkpoints").absolute()
    last = ModelCheckpoint(save_last=True)
    assert Recovery not in kinds(default_pieces({**GIVEN, "callbacks": [last]}, "fit", Path("run/fit"))["callbacks"])
    assert Path(last.dirpath or "") == Path("run/checkpoints").absolute()
    rare = Recovery(minutes=60, every_n_steps=500)
    assert (
        kinds(default_pieces({**GIVEN, "callbacks": [rare]}, "fit", Path("run/fit"))["callbacks"]).count(Recovery) == 1
    )


def test_null_by_flag_is_no_text() -> None:
    arguments = ["fit", "--model.a.b", "null", "--data.c=null", "--trainer.logger", "null", "--model.d", "nullify"]
    assert with_nulls(arguments) == [
        *("fit", "--config", '{"model.a.b": null}', "--config", '{"data.c": null}'),
        *("--trainer.logger", "null", "--model.d", "nullify"),
    ]
