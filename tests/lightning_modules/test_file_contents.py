"""The content of the files that a model is loaded from: what changes its hash, and what cannot be compared."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from datamodules.shards.index import digest
from datamodules.shards.scan import file_sha256
from datamodules.stream.predict_outputs import OF_BYTES, differences, uncompared
from lightning_modules.file_contents import contents_of, warn_uncompared
from lightning_modules.policy_loading import settings_and_contents, weights_of

WAS, IS = "a" * 32, "b" * 32


def checkpoint(folder: Path) -> Path:
    for name in ("transformer/config.json", "transformer/w.safetensors", "vae/w.safetensors"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def content(path: Path) -> str:
    return contents_of(SimpleNamespace(path=str(path)))["path"]


def test_a_byte_that_was_replaced_in_place_changes_the_hash(tmp_path: Path) -> None:
    weights = checkpoint(tmp_path / "base") / "vae/w.safetensors"
    before, facts = content(tmp_path / "base"), weights.stat()
    weights.write_bytes(b"x" + weights.read_bytes()[1:])
    assert weights.stat().st_size == facts.st_size
    assert content(tmp_path / "base") != before


@pytest.mark.parametrize("change", ["renamed", "added", "removed", "config"])
def test_files_that_come_go_or_change_are_seen(change: str, tmp_path: Path) -> None:
    base = checkpoint(tmp_path / "base")
    before = content(base)
    if change == "renamed":
        (base / "vae/w.safetensors").rename(base / "vae/v.safetensors")
    elif change == "added":
        (base / "vae/more.bin").write_bytes(b"")
    elif change == "removed":
        (base / "vae/w.safetensors").unlink()
    else:
        (base / "transformer/config.json").write_text("{}")
    assert content(base) != before


def test_a_copy_at_another_time_and_notes_for_people_are_the_same_weights(tmp_path: Path) -> None:
    before = content(checkpoint(tmp_path / "base"))
    copied = shutil.copytree(tmp_path / "base", tmp_path / "copy")
    os.utime(copied / "vae/w.safetensors", (1, 1))
    (copied / "README.md").write_text("about this model")
    (copied / ".cache").mkdir()
    (copied / ".cache/lock").write_text("")
    assert content(copied) == before


def test_linked_folders_and_files_are_read_and_a_circle_ends(tmp_path: Path) -> None:
    base, other = checkpoint(tmp_path / "base"), checkpoint(tmp_path / "other")
    before = content(base)
    shutil.rmtree(base / "transformer")
    (base / "transformer").symlink_to(other / "transformer")
    (base / "vae/w.safetensors").unlink()
    (base / "vae/w.safetensors").symlink_to(other / "vae/w.safetensors")
    assert content(base) == before
    (other / "transformer/w.safetensors").write_bytes(b"another")
    assert content(base) != before
    changed = content(base)
    (base / "again").symlink_to(base)
    assert content(base) == changed


def test_only_settings_that_name_local_files_have_a_content(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"w")
    names = {"path": "some/hub-id", "weights": str(tmp_path / "w.pth"), "text": "long " * 2000, "odd": "a\0b", "no": ""}
    assert list(contents_of(SimpleNamespace(**names, _hidden=str(tmp_path), number=1))) == ["weights"]


# The order of metadata


def adapter(folder: Path, names: tuple[str, ...], value: float = 1.0) -> Path:
    """A file as safetensors writes it, its metadata in a given order."""
    content = save({"a": torch.full((3,), value)}, {"format": "pt", "lora_adapter_metadata": "{}"})
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    metadata = {name: header["__metadata__"][name] for name in names}
    ordered = json.dumps({"__metadata__": metadata, "a": header["a"]}, separators=(",", ":")).encode().ljust(length)
    folder.mkdir(parents=True)
    (folder / "pytorch_lora_weights.safetensors").write_bytes(content[:8] + ordered + content[8 + length :])
    return folder


ONE_ORDER, OTHER_ORDER = ("format", "lora_adapter_metadata"), ("lora_adapter_metadata", "format")


def test_an_adapter_that_was_exported_again_is_the_same(tmp_path: Path) -> None:
    """safetensors draws the order of metadata again in every process."""
    first, again = adapter(tmp_path / "a", ONE_ORDER), adapter(tmp_path / "b", OTHER_ORDER)
    files = [folder / "pytorch_lora_weights.safetensors" for folder in (first, again)]
    assert files[0].read_bytes() != files[1].read_bytes()
    assert load_file(files[0])["a"].equal(load_file(files[1])["a"])
    described_by = [
        {"policy": settings_and_contents(policy), "trained": weights_of(policy)}
        for policy in (SimpleNamespace(adapter=str(folder)) for folder in (first, again))
    ]
    del described_by[0]["policy"]["adapter"], described_by[1]["policy"]["adapter"]
    assert differences(*described_by) == []
    assert uncompared(*described_by) == []
    other = SimpleNamespace(adapter=str(adapter(tmp_path / "c", ONE_ORDER, 2.0)))
    assert contents_of(other)["adapter"] != contents_of(SimpleNamespace(adapter=str(first)))["adapter"]
    assert weights_of(other) != weights_of(SimpleNamespace(adapter=str(first)))


def test_a_hash_of_bytes_that_an_earlier_release_recorded_is_compared_with_the_bytes(tmp_path: Path) -> None:
    policy = SimpleNamespace(adapter=str(adapter(tmp_path / "a", ONE_ORDER)))
    contents, trained = contents_of(policy), weights_of(policy)
    now = {"policy": {"contents": contents}, "trained": trained}
    former = {"policy": {"contents": contents[OF_BYTES]}, "trained": trained[OF_BYTES]}
    file = tmp_path / "a/pytorch_lora_weights.safetensors"
    assert former["trained"]["adapter"] == digest(file_sha256(file).encode())
    assert former["policy"]["contents"]["adapter"] == digest(
        json.dumps([[file.name, file.stat().st_size, file_sha256(file)]]).encode()
    )
    assert differences(former, now) == []
    (line, _) = differences({**former, "policy": {"contents": {"adapter": WAS}}, "trained": {"adapter": WAS}}, now)
    assert line.startswith("the files that policy.adapter names have been replaced")


def test_files_with_one_order_alone_have_one_hash(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    save_file({"a": torch.zeros(2)}, tmp_path / "base/model.safetensors", {"format": "pt"})
    (tmp_path / "base/w.bin").write_bytes(b"\x02" + bytes(7) + b"{}")
    assert list(contents_of(SimpleNamespace(path=str(tmp_path / "base")))) == ["path"]


# Compared


def described(contents: dict[str, str] | None, path: str = "base", **more: Any) -> dict[str, Any]:
    known = {} if contents is None else {"contents": contents}
    return {"seed": 0, "policy": {"path": path, **known, **more}}


def test_replaced_files_are_a_difference_that_says_so() -> None:
    lines = differences(described({"path": WAS}), described({"path": IS}))
    assert lines == [f'the files that policy.path names have been replaced: their hash was "{WAS}", is "{IS}"']
    assert uncompared(described({"path": WAS}), described({"path": IS})) == []
    assert differences(described({"path": WAS}), described({"path": WAS})) == []


@pytest.mark.parametrize("before", [described(None), described({}), described(None, files={"path": "0" * 16})])
def test_what_an_earlier_release_did_not_record_is_no_difference_and_is_said(before: dict[str, Any]) -> None:
    now = described({"path": IS})
    assert differences(before, now) == []
    assert uncompared(before, now) == ["policy.path"]
    with pytest.warns(UserWarning, match=r"runs/x was begun by a release .* files in policy\.path: whether"):
        warn_uncompared(Path("runs/x"), before, now)
    assert differences(before, described({"path": IS}, "else")) == ['policy.path was "base", is "else"']


def test_a_group_called_files_of_something_else_is_compared() -> None:
    assert differences({"source": {"files": {"a": 1}}}, {"source": {}}) == ["source.files.a was 1, is not there"]


def test_files_that_are_gone_are_a_difference() -> None:
    lines = differences(described({"path": WAS}), described({}))
    assert lines == [f'the files that policy.path names have been replaced: their hash was "{WAS}", is not there']
