"""`vidpref check`, and the same check at the start of a fit: every fault at once, without weights."""

from __future__ import annotations

import json
import shutil
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import vidpref
from callbacks.cli.check_line import number_of_ranks
from datamodules.schemas import write_shards
from datamodules.vista.samples import Box, PreferenceRow
from tests.support.annotated_videos import annotated
from tests.support.paths import ROOT
from tests.support.shard_samples import flip_byte

CHECKPOINT = ROOT / "datamodules/toy_world/checkpoints/video_llava"
CONFIG = ROOT / "configs/toy/vista.yaml"

Check = Callable[..., int]


def samples(count: int = 12, **texts: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Samples of which 7 have an event and 4 a box; the texts replace those of the last one."""
    for number in range(count):
        lacks: dict[str, Any] = {} if number < 7 else {"event": None}
        lacks |= {} if number < 4 else {"boxes": ()}
        row, members = annotated(f"s{number:02d}", **lacks)
        yield row.key, with_texts(row, members, **(texts if number == count - 1 else {}))


def with_texts(row: PreferenceRow, members: dict[str, bytes], **texts: str) -> dict[str, bytes]:
    return members | {"json": json.dumps(replace(row, **texts).to_json()).encode()}


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """`vidpref check FLAGS...` in a folder with twelve samples and a checkpoint's small files, without its weights."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(CHECKPOINT, "policy", ignore=shutil.ignore_patterns("*.safetensors"))
    write_shards(samples(), "train", samples_per_shard=5)

    def call(*flags: str, verb: str = "check") -> int:
        given = ["--config", str(CONFIG), "--data.train", "train.index.json", "--data.val", "null"]
        given += ["--model.policy.path", "policy", "--data.batch_size", "8"]
        return vidpref.main([verb, *given, "--trainer.default_root_dir", "run", *flags])

    return call


def test_a_run_without_faults(check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    assert check() == 0
    lines = capsys.readouterr().out.splitlines()
    assert "train: 12 samples: response 12, video 12, clip 7, object 4, token 12" in lines
    assert "an epoch: 1 optimizer step of 8 samples, 8 of 12: the next epoch begins with those that are left" in lines
    assert "0.08 million parameters train: LoRA in 21 layers" in lines
    assert lines[-1] == "no faults: this run can start"
    assert not Path("run").exists(), "a check writes nothing"


def test_all_faults_are_in_one_list(check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    long = "red " * 600
    write_shards(samples(question=long), "long", samples_per_shard=5)
    status = check(
        *("--data.train", "long.index.json", "--data.val", "absent.index.json"),
        *("--model.policy.lora.targets", "nothing_like_it"),
    )
    assert status == 1
    message = capsys.readouterr().err
    assert "absent.index.json: no such index" in message
    assert "nothing_like_it" in message
    assert "2 faults:" in message
    assert check("--data.train", "long.index.json") == 1
    message = capsys.readouterr().err
    assert "1 of 12 samples cannot be used" in message
    assert "sample 's11'" in message
    assert "positions; use fewer frames or shorter texts" in message
    assert check("--data.train", "long.index.json", "--data.val", "absent.index.json") == 1
    message = capsys.readouterr().err
    assert "absent.index.json: no such index" in message, "neither fault hides the other"
    assert "sample 's11'" in message


def test_texts_that_fit_are_no_faults_and_every_one_that_does_not_is_named(
    check: Check, capsys: pytest.CaptureFixture[str]
) -> None:
    def texts() -> Iterator[tuple[str, dict[str, bytes]]]:
        for number in range(6):
            row, members = annotated(f"t{number}")
            yield row.key, with_texts(row, members, **({"chosen": "red " * 600} if number % 2 else {}))

    write_shards(texts(), "texts", samples_per_shard=4)
    assert check("--data.train", "texts.index.json") == 1
    faults = [line for line in capsys.readouterr().err.splitlines() if ": sample '" in line]
    assert [line.split("sample ")[1][:4] for line in faults] == ["'t1'", "'t3'", "'t5'"]


def test_an_altered_row_is_named(check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    index = write_shards(samples(), "altered", samples_per_shard=5)
    flip_byte(index, 3, "json")
    assert check("--data.train", "altered.index.json") == 1
    assert "sample 's03': .json was altered" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="1 of 12 samples cannot be used, and are skipped"):
        assert check("--data.train", "altered.index.json", "--data.on_bad_sample", "skip") == 0


def test_a_policy_that_is_not_there_hides_no_fault_of_the_data(
    check: Check, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("train-000001.tar").unlink()
    assert check("--model.policy.path", "elsewhere") == 1
    message = capsys.readouterr().err
    assert "policy: no checkpoint at 'elsewhere'" in message
    assert "train-000001.tar: no such shard" in message


def test_a_mistyped_setting_is_a_fault(check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("--model.betta", "1") == 1
    assert "did you mean 'beta'?" in capsys.readouterr().err


Usage = namedtuple("Usage", "total used free")  # noqa: PYI024  # as shutil has it


def test_a_disk_without_room_is_a_fault(
    check: Check, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 0, 2_000_000))
    assert check() == 1
    message = capsys.readouterr().err
    assert "about 2.5 MB will be written" in message
    assert "2.0 MB are free" in message
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 0, 4_000_000))
    assert check() == 0


def test_fit_refuses_with_the_same_list_before_weights_are_loaded(
    check: Check, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shards(samples(question="red " * 600), "long", samples_per_shard=5)
    assert check("--data.train", "long.index.json", verb="fit") == 1
    message = capsys.readouterr().err
    assert "sample 's11'" in message
    assert "model.safetensors" not in message, "the weights are not there, and nobody has looked for them"


def test_a_checkpoint_to_go_on_from_is_checked(check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(CHECKPOINT / "model.safetensors", "policy")
    assert check("--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false", verb="fit") == 0
    assert check() == 0
    assert "goes on from run/checkpoints/last.ckpt, step 1" in capsys.readouterr().out
    assert check("--data.seed", "5", "--model.policy.lora.r", "4") == 1
    message = capsys.readouterr().err
    assert "seed was 0, is 5" in message
    assert "trainable tensors have another shape" in message
    for path in Path().glob("train*"):
        path.unlink()
    write_shards(samples(11), "train", samples_per_shard=5)
    assert check() == 1
    assert "the content of the training samples has changed" in capsys.readouterr().err


def test_a_reference_that_cannot_be_one_is_a_fault(check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("--model.policy.lora", "null") == 1
    assert "parameters train that are no adapter's" in capsys.readouterr().err
    absent = ["--trainer.callbacks.ReferenceModel.mode", "cached", "--trainer.callbacks.ReferenceModel.cache", "absent"]
    assert check(*absent) == 1
    assert "absent: no such index" in capsys.readouterr().err


def test_what_a_copy_takes_is_said(check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("--model.policy.lora", "null", "--trainer.callbacks.ReferenceModel.mode", "copy") == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "second copy of the policy" in line]
    size = sum(tensor.numel() * 4 for tensor in load_file(CHECKPOINT / "model.safetensors").values())
    assert float(line.split("policy: ")[1].split(" MB")[0]) == pytest.approx(size / 1e6, rel=0.05)


def test_the_cache_of_a_validation_that_is_switched_off_is_not_asked_for(
    check: Check, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shards(samples(3), "val", samples_per_shard=5)
    shutil.copy(CHECKPOINT / "model.safetensors", "policy")
    cache = ["--config", str(ROOT / "configs/reference/write_cache.yaml"), "--data.predict", "train.index.json"]
    assert check(*cache, "--trainer.callbacks.output", "cache", verb="predict") == 0
    cached = ["--trainer.callbacks.ReferenceModel.mode", "cached", "--data.val", "val.index.json"]
    cached += ["--trainer.callbacks.ReferenceModel.cache", "[cache.index.json]"]
    assert check(*cached) == 1
    assert "cache.index.json" in capsys.readouterr().err.partition("1 fault:")[2]
    assert check(*cached, "--trainer.limit_val_batches", "0") == 0


def test_a_box_outside_what_the_policy_sees_is_in_no_term(check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    """The processor crops the middle of a wide frame; a box at its border is not there for the policy."""
    settings = Path("policy/processor_config.json")
    content = json.loads(settings.read_text())
    side = {"height": 24, "width": 24}
    content["video_processor"] |= {"do_center_crop": True, "crop_size": side, "size": {"shortest_edge": 24}}
    settings.write_text(json.dumps(content))
    boxes = [Box(0, 4, 7, 8), Box(20, 4, 8, 8), Box(22, 4, 8, 8)]  # in frames of 48 x 32, of which 8 to 40 are seen
    rows = [annotated(f"b{number}", boxes=(box,)) for number, box in enumerate(boxes)]
    write_shards([(row.key, members) for row, members in rows], "boxes", samples_per_shard=5)
    with pytest.warns(UserWarning, match="1 of 3 samples with boxes take no part in the object term"):
        assert check("--data.train", "boxes.index.json") == 0
    assert "train: 3 samples: response 3, video 3, clip 3, object 2, token 3" in capsys.readouterr().out


@pytest.mark.slow  # the CI installs the extra before its slow tests
def test_four_bits_that_the_run_would_shard_are_a_fault(check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    """The check itself shards nothing, and so would not come across it."""
    pytest.importorskip("bitsandbytes")
    assert check("--model.policy.quantization", "nf4", "--config", str(ROOT / "configs/strategy/fsdp.yaml")) == 1
    assert "four-bit weights are not sharded; use another strategy" in capsys.readouterr().err


def test_the_number_of_ranks() -> None:
    assert number_of_ranks({"devices": "auto", "num_nodes": 1}) == 1
    assert number_of_ranks({"devices": "8", "num_nodes": 2}) == 16
    assert number_of_ranks({"devices": [0, 1], "num_nodes": 1}) == 2


@pytest.mark.slow
def test_ten_thousand_rows_take_less_than_two_minutes(check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    def rows() -> Iterator[tuple[str, dict[str, bytes]]]:
        _, members = annotated("first")
        for number in range(10_000):
            row, members = annotated(f"s{number:05d}", members={"mp4": members["mp4"]})
            yield row.key, members

    write_shards(rows(), "many", samples_per_shard=2500)
    started = time.monotonic()
    assert check("--data.train", "many.index.json") == 0
    seconds = time.monotonic() - started
    assert "train: 10000 samples: response 10000" in capsys.readouterr().out
    assert seconds < 120
