"""The speed comparison at tiny sizes: equal losses, whole rows, a file; the times themselves mean nothing here."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.speed import dense, dpo, measure, models, vista_case, vista_rows
from benchmarks.speed.__main__ import COMMANDS, main
from benchmarks.speed.options import DenseOptions, DpoOptions, LanguageOptions, VistaOptions

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")  # peft and TRL use old names

SIZES: dict[str, Any] = {
    "layers": 2, "width": 64, "heads": 2, "feed_forward": 96, "vocabulary": 300, "rank": 4, "prefix": 40, "answer": 5,
    "repeats": 2, "memory": False,
}  # fmt: skip
TINY = VistaOptions(**SIZES, tower=True, frames=2, image_size=28, tower_layers=2, tower_width=64)


def flags(options: LanguageOptions, *names: str) -> list[str]:
    given = [name for name in (*SIZES, *names) if name != "memory"]
    return ["--no_memory", *(f"--{name}={getattr(options, name)}" for name in given)]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speed")
    models.save_video_llava(TINY, path)
    return path


@pytest.fixture(autouse=True)
def small_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "PRODUCT_SIZE", 64)


def gradients(row: Any) -> dict[str, torch.Tensor]:
    row().backward()
    grads = {
        name: parameter.grad.clone()
        for name, parameter in row.case.policy.named_parameters()
        if parameter.grad is not None
    }
    row.clear()
    return grads


@pytest.mark.slow
def test_every_row_has_the_same_loss_and_the_same_gradient(folder: Path) -> None:
    rows = vista_rows.vista_rows(TINY, folder)
    assert len(rows) == 8
    losses = [float(row().detach()) for row in rows.values()]
    assert losses == pytest.approx([losses[0]] * 8, abs=1e-5)
    at_reference = 2.7 * torch.log(torch.tensor(2.0))
    assert abs(losses[0] - float(at_reference)) > 1e-4  # policy and reference differ, or equality would say little
    expected = gradients(rows[vista_rows.LIVE])
    for name, row in rows.items():
        grads = gradients(row)
        assert grads.keys() == expected.keys()
        for parameter, gradient in grads.items():
            torch.testing.assert_close(gradient, expected[parameter], atol=1e-5, rtol=1e-3, msg=f"{name} {parameter}")


@pytest.mark.slow
def test_the_released_schedule_makes_its_sixteen_passes_over_pairs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[tuple[bool, int, int]] = []
    logits = vista_case.VistaCase.logits

    def counted(case: Any, rows: Any, tower: bool, keep: int = 0) -> torch.Tensor:
        passes.append((torch.is_grad_enabled(), len(rows), keep))
        return logits(case, rows, tower, keep)

    monkeypatch.setattr(vista_case.VistaCase, "logits", counted)
    rows = vista_rows.vista_rows(replace(TINY, tower=False), folder)
    rows[vista_rows.RELEASED]()
    assert sorted(passes) == [(False, 2, 0)] * 9 + [(True, 2, 0)] * 7
    passes.clear()
    rows[vista_rows.SEPARATE]()
    assert sorted(passes) == [(False, 1, TINY.answer + 1)] * 8 + [(True, 1, TINY.answer + 1)] * 8


@pytest.mark.slow
def test_the_sample_has_exactly_the_asked_lengths(folder: Path) -> None:
    case = vista_case.build_case(TINY, folder)
    assert len(case.scored()) == 8
    for sequence in case.sequences.values():
        assert len(sequence.ids) == TINY.prefix + TINY.answer
        assert len(sequence.targets) == TINY.answer


@pytest.mark.slow
def test_a_prefix_shorter_than_the_video_says_what_to_change(folder: Path) -> None:
    with pytest.raises(ValueError, match="prefix is 10, the video alone has 10 tokens"):
        vista_case.build_case(replace(TINY, prefix=10), folder)


@pytest.mark.slow
def test_the_command_prints_a_table_and_writes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "speed.json"
    main(["vista", *flags(TINY, "frames", "image_size", "tower_layers", "tower_width"), f"--json={file}"])
    result = json.loads(file.read_text())
    assert [row["name"] for row in result["rows"]] == [
        vista_rows.RELEASED,
        vista_rows.SEPARATE,
        vista_rows.LIVE,
        vista_rows.CACHED,
    ]
    assert all(len(row["seconds"]) == 2 and row["flops"] > 0 for row in result["rows"])
    assert result["times"][vista_rows.RELEASED] == 1.0
    assert result["environment"]["threads"] == torch.get_num_threads()
    assert "ours, cached" in capsys.readouterr().out


def test_help_says_what_each_comparison_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert all(f"{name} {text}" in shown for name, (_, _, text) in COMMANDS.items())


@pytest.mark.slow
def test_the_shared_prefix_saves_counted_operations(folder: Path) -> None:
    rows, product = measure.measure(vista_rows.vista_rows(TINY, folder), 1)
    flops = {row.name: row.flops for row in rows}
    assert flops[vista_rows.RELEASED] > 2 * flops[vista_rows.LIVE] > 2 * flops[vista_rows.CACHED]
    tower = {name.removesuffix(vista_rows.WITH_TOWER): flops[name] for name in flops if "tower" in name}
    assert tower[vista_rows.RELEASED] / tower[vista_rows.LIVE] > flops[vista_rows.RELEASED] / flops[vista_rows.LIVE]
    assert product.flops == 2 * 64**3


def test_rows_of_different_losses_are_not_compared() -> None:
    class Constant:
        def __init__(self, value: float) -> None:
            self.value = torch.tensor(value, requires_grad=True)

        def __call__(self) -> torch.Tensor:
            return self.value * 1

        def clear(self) -> None:
            self.value.grad = None

    with pytest.raises(RuntimeError, match="different losses"):
        measure.measure({"one": Constant(1.0), "two": Constant(1.001)}, 1)


def test_causal_attention_counts_half() -> None:
    counts = []
    for causal in (False, True):
        query = torch.randn(1, 2, 16, 8, requires_grad=True)
        with measure.FlopCounterMode(display=False, custom_mapping=measure.CPU_ATTENTION) as counter:
            torch.nn.functional.scaled_dot_product_attention(query, query, query, is_causal=causal).sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == 2 * counts[1] > 0


@pytest.mark.slow
def test_an_index_is_opened_in_both_formats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["index", "--rows=1100", "--repeats=1", f"--folder={tmp_path}", f"--json={tmp_path / 'out.json'}"])
    former, columns = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert (former["format"], columns["format"]) == ("1, JSON", "2, columns")
    assert all(row["open_seconds"] > 0 and row["file_bytes"] > 1100 * 200 for row in (former, columns))
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"], "the indexes are removed"
    assert "index of 1,100 samples" in capsys.readouterr().out


@pytest.mark.slow
def test_dpo_without_trl_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dpo, "find_spec", lambda name: None)
    result = dpo.dpo(DpoOptions(**SIZES))
    assert [row["name"] for row in result["rows"]] == [dpo.OURS]
    assert "pip install" in result["notes"][0]


@pytest.mark.slow
def test_plain_dpo_has_trl_s_loss_and_gradient() -> None:
    pytest.importorskip("trl", reason="the baseline comes by the extra `trl`")
    rows: dict[str, Any] = dpo.dpo_rows(DpoOptions(**SIZES))
    grads = {}
    for name, row in rows.items():
        row().backward()
        model = row.model if name == dpo.OURS else row.trainer.model
        grads[name] = {
            parameter_name: parameter.grad
            for parameter_name, parameter in model.named_parameters()
            if "lora_" in parameter_name
        }
    flops = {row.name: row.flops for row in measure.measure(rows, 1)[0]}
    assert flops[dpo.TRL_CHECKPOINTING] > flops[dpo.TRL] > flops[dpo.OURS]
    for trl in (dpo.TRL, dpo.TRL_CHECKPOINTING):
        assert grads[dpo.OURS].keys() == grads[trl].keys()
        for name, gradient in grads[dpo.OURS].items():
            torch.testing.assert_close(gradient, grads[trl][name], atol=1e-6, rtol=1e-4)


@pytest.mark.slow
def test_memory_is_measured_where_freed_blocks_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "7")
    assert measure.in_fresh_process(os.getenv, "MALLOC_MMAP_THRESHOLD_") == "1048576"
    assert os.environ["MALLOC_MMAP_THRESHOLD_"] == "7"


@pytest.mark.slow
def test_peak_memory_comes_from_a_process_of_its_own(folder: Path) -> None:
    before, peak = measure.peak_memory(vista_rows.vista_rows, vista_rows.LIVE, TINY, folder)
    assert 0 < before <= peak


DENSE = DenseOptions(
    layers=2, width=32, heads=2, feed_forward=48, rank=2, repeats=1, memory=False, latent_frames=3, latent_height=4,
    latent_width=6, prompt=5,
)  # fmt: skip


@pytest.mark.slow
def test_dense_rows_are_one_step_with_two_kinds_of_reference(tmp_path: Path) -> None:
    models.save_wan(DENSE, tmp_path)
    rows = dense.dense_rows(DENSE, tmp_path)
    losses = [float(row().detach()) for row in rows.values()]
    # beta enlarges what one forward of two videos and two forwards of one differ by.
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-4)
    assert abs(losses[0] - math.log(2)) > 1e-3  # policy and reference differ
    grads = []
    for row in rows.values():
        row().backward()
        policy = row.module.policy  # type: ignore[attr-defined]
        grads.append(
            torch.cat([parameter.grad.flatten() for parameter in policy.parameters() if parameter.requires_grad])
        )
        row.clear()
    assert grads[0].abs().sum() > 0
    torch.testing.assert_close(grads[0], grads[1], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(grads[1], grads[2], atol=1e-6, rtol=1e-5)
