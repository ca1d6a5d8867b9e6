"""What single rows make of what they see."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.gpu import kill, step_clock
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.kernels import SMALL, attentions, profiled, shortened
from benchmarks.gpu.kill import EVERY, KILLED, STEPS, compared
from benchmarks.gpu.marked_tests import marked_files, outcome
from benchmarks.gpu.methods import Batches, filled
from benchmarks.gpu.step_clock import StepClock, counted_syncs, place
from benchmarks.gpu.steps import equal, equal_values
from datamodules.vista.batches import VistaBatch
from datamodules.vista.samples import View
from tests.support.paths import ROOT

# Killed and resumed


def lines(resumed: float = 0.0, key: str = "a") -> list[dict[str, Any]]:
    def line(step: int, change: float = 0.0, name: str = "a") -> dict[str, Any]:
        return {"step": step, "loss": step / 10 + change, "keys": [name]}

    first = [line(step) for step in range(1, KILLED + 1)]
    return [*first, *(line(step, resumed, key) for step in range(EVERY + 1, STEPS + 1))]


def test_a_resumed_fit_repeats_the_steps_after_its_checkpoint() -> None:
    assert compared(lines()).fault == ""
    assert compared(lines(5e-5)).fault == ""
    assert "differs by 2.0e-04" in compared(lines(2e-4)).fault
    assert "other samples" in compared(lines(key="b")).fault
    assert "the steps were" in compared(lines()[:-1]).fault
    assert kill.KILLED > kill.EVERY  # or nothing would be repeated


# Marked tests


@pytest.mark.parametrize(
    ("counts", "body", "dry_run", "fault"),
    [
        ('tests="3" failures="0" errors="0" skipped="0"', "", False, ""),
        ('tests="3" failures="0" errors="0" skipped="1"', "", False, "1 skipped, though there is a GPU"),
        ('tests="3" failures="0" errors="0" skipped="3"', "", True, ""),
        ('tests="2" failures="1" errors="0" skipped="0"', '<testcase name="bad"><failure/></testcase>', False, "bad"),
        ('tests="2" failures="0" errors="1" skipped="0"', '<testcase name="bad"><error/></testcase>', True, "bad"),
        ('tests="0" failures="0" errors="0" skipped="0"', "", True, "there are no such tests"),
    ],
)
def test_the_report_of_the_tests(tmp_path: Path, counts: str, body: str, dry_run: bool, fault: str) -> None:
    report = tmp_path / "tests.xml"
    report.write_text(f"<testsuites><testsuite {counts}>{body}</testsuite></testsuites>")
    found = outcome(report, dry_run)
    assert (fault in found.fault) if fault else found.fault == ""


def test_the_files_with_marked_tests() -> None:
    names = {file.relative_to(ROOT / "tests").as_posix() for file in marked_files()}
    assert {
        "datamodules/dense/test_batches.py",
        "lightning_modules/policies/test_sharding.py",
        "lightning_modules/test_flow_module.py",
        "benchmarks/gpu/test_gpu_syncs.py",
    } <= names


# Synchronisations and times


def test_syncs_are_counted_by_place(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    counts: Counter[str] = Counter()
    message = "called a synchronizing CUDA operation (Triggered internally at ...)"
    with counted_syncs(counts, "cuda"):
        for _ in range(3):
            warnings.warn_explicit(message, UserWarning, str(ROOT / "lightning_modules/preference.py"), 12)
        warnings.warn_explicit("something else", UserWarning, "a.py", 1)
    assert counts == {"lightning_modules/preference.py:12": 3}
    assert modes == ["warn", "default"]


def test_a_place_is_named_from_its_root() -> None:
    assert place(str(ROOT / "vidpref.py")) == "vidpref.py"
    assert place(torch.__file__) == "torch/__init__.py"
    assert place("/elsewhere/a.py") == "/elsewhere/a.py"


def steps_of(clock: StepClock, count: int, device: str = "cpu") -> Any:
    trainer: Any = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)), should_stop=False)
    for number in range(count):
        clock.on_train_batch_end(trainer, None, {"loss": torch.tensor(1.0)}, None, number)  # type: ignore[arg-type]
    return trainer


def test_first_steps_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(100))
    monkeypatch.setattr(step_clock.time, "perf_counter", lambda: float(next(now)) ** 2)
    clock = StepClock(warmup=3, deadline=time.monotonic() + 1000)
    trainer = steps_of(clock, 5)
    # The clock is read at each step's end, and again before the next one begins: 5^2 to 6^2, 7^2 to 8^2.
    assert clock.seconds == [11.0, 15.0]
    assert len(clock.losses) == 5
    assert not trainer.should_stop


def test_a_fit_ends_before_its_time_is_over() -> None:
    clock = StepClock(warmup=2, deadline=time.monotonic() + 4, reserve=5)
    assert not steps_of(clock, 2).should_stop
    assert steps_of(clock, 1).should_stop


# Steps


def test_states_are_compared_by_names_and_digits() -> None:
    state = {"a": torch.ones(2), "b": torch.zeros(3)}
    assert equal(state, {name: tensor.clone() for name, tensor in state.items()})
    assert not equal(state, {"a": state["a"]})
    assert not equal(state, state | {"b": torch.tensor([0.0, 0.0, 1e-7])})
    assert not equal({}, {})
    assert equal_values(state.values(), [state["b"], state["a"]])
    assert not equal_values(state.values(), [state["b"], state["a"] + 1e-7])
    assert not equal_values([], [])


def test_a_batch_of_noise_shows_the_same_frames_twice() -> None:
    def frames(*numbers: int) -> torch.Tensor:
        made = torch.zeros(len(numbers), 3, 4, 6, dtype=torch.uint8)
        for frame, number in zip(made, numbers, strict=True):
            frame[:, :, 0], frame[:, :, 1] = number % 256, number // 256
        return made

    texts = {"chosen": "a"}
    views = [View(0, "original", frames(1, 300), "?", texts), View(0, "video_negative", frames(300, 1), "?", texts)]  # type: ignore[arg-type]
    batch = filled(VistaBatch(["s"], views, torch.ones(1, dtype=torch.bool)))
    first, second = (view.frames for view in batch.views)
    assert torch.equal(first, second.flip(0))
    assert not torch.equal(first[0], first[1])
    assert first.float().std() > 50


def test_every_batch_is_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = VistaBatch(["s"], [], torch.ones(1, dtype=torch.bool))
    monkeypatch.setattr("benchmarks.gpu.methods.batch_of", lambda *_: batch)
    method: Any = SimpleNamespace(module=None, data=None, sizes=None)
    first, second = Batches(method, 2)
    first.encoded = "of the first"
    assert second.encoded is None


# Kernels


def test_the_chosen_operations_are_named() -> None:
    parts = attentions(SMALL, "cpu")
    assert set(parts) == {
        "prefix, causal", "answers, under the mask", "packed view", "tower", "video transformer", "video to text",
    }  # fmt: skip
    whole, head = parts["packed view"](), parts["prefix, causal"]()
    # The mask is for the answers only.
    torch.testing.assert_close(whole[:, : SMALL.prefix], head[:, : SMALL.prefix])
    assert not torch.equal(whole[:, SMALL.prefix :], head[:, SMALL.prefix :])
    operations = profiled(parts["prefix, causal"], "cpu")["operations"]
    assert "_scaled_dot_product_flash_attention_for_cpu" in operations
    assert shortened("_scaled_dot_product_efficient_attention_backward") == "efficient backward"


# The command


def test_without_a_gpu_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("benchmarks.gpu.__main__.has_gpu", lambda: False)
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2
    assert "--dry-run" in capsys.readouterr().err


def test_an_unknown_row_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--dry-run", "--only", "rate,speed"])
    assert "no row speed; there are weights, estimates, rate" in capsys.readouterr().err
