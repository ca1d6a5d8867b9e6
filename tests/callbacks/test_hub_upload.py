"""An export goes to a hub whole, once, and with nothing else; what the hub refuses is said without a token."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants

import vidpref
from callbacks.export_run import export_run
from callbacks.hub_upload import upload
from tests.support.hub_server import TOKEN, Hub, Repository, hub_server
from tests.support.paths import ROOT

FILES = ["README.md", "adapter_config.json", "adapter_model.safetensors", "original_names/wan.safetensors"]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with hub_server() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield running


@pytest.fixture
def export(tmp_path: Path) -> Path:
    folder = tmp_path / "exports/last"
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def test_an_export_is_uploaded_once(hub: Hub, export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert upload(export, "me/vista", private=True, message="VistaDPO, step 2") == f"{hub.endpoint}/me/vista"
    repository = hub.repositories["me/vista"]
    assert repository.private
    assert repository.files == {name: name.encode() for name in FILES}
    assert repository.commits == [("VistaDPO, step 2", FILES)]
    upload(export, "vista", private=True, message="again")  # the owner is the login's
    assert len(repository.commits) == 1
    assert "me/vista has these files already" in capsys.readouterr().out
    (export / "README.md").write_text("new")
    upload(export, "me/vista", private=True, message="card")
    assert repository.commits[1:] == [("card", ["README.md"])]
    assert f"uploaded: {hub.endpoint}/me/vista" in capsys.readouterr().out


def test_nothing_but_the_export_is_uploaded(hub: Hub, export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    others = ["last.ckpt", "metrics.csv", "events.out.tfevents.1", "run.log", "optimizer.pt", ".env", "a/.cache/token"]
    for name in others:
        (export / name).parent.mkdir(parents=True, exist_ok=True)
        (export / name).write_text("x")
    upload(export, "me/vista", private=False, message="m")
    assert sorted(hub.repositories["me/vista"].files) == FILES
    said = capsys.readouterr().out.splitlines()[0]
    assert said.partition(": ")[2].split(", ") == sorted(others), "each is named"


def test_a_repository_that_exists(hub: Hub, export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hub.repositories["me/vista"] = Repository(files={"notes.txt": b"mine"})
    with pytest.raises(ValueError, match=r"me/vista exists and is public, so nothing was uploaded"):
        upload(export, "me/vista", private=True, message="m")
    assert not hub.repositories["me/vista"].commits
    upload(export, "me/vista", private=False, message="m")
    assert hub.repositories["me/vista"].files["notes.txt"] == b"mine"
    assert "me/vista exists; what differs there becomes a new commit" in capsys.readouterr().out


@pytest.mark.parametrize("token", [None, "hf_" + "9zY8" * 8])
def test_no_login_or_a_wrong_one(hub: Hub, export: Path, token: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN") if token is None else monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ValueError, match=r"hf auth login.*the same command again") as error:
        upload(export, "me/vista", private=False, message="m")
    assert str(export) in str(error.value)
    assert "9zY8" not in str(error.value), "the hub repeats the token, the message does not"
    assert ("***" in str(error.value)) == (token is not None)
    assert not hub.repositories


def test_a_name_that_this_login_may_not_write(hub: Hub, export: Path) -> None:
    hub.forbidden.add("them/vista")
    with pytest.raises(ValueError, match=r"may not write to them/vista.*don't have the rights"):
        upload(export, "them/vista", private=False, message="m")


def test_without_network(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with hub_server() as gone:
        pass
    with pytest.raises(ConnectionError, match=rf"{gone.endpoint} cannot be reached .*{export}"):
        upload(export, "me/vista", private=False, message="m", api=HfApi(gone.endpoint))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match=r"HF_HUB_OFFLINE is set.*the same command again"):
        upload(export, "me/vista", private=False, message="m", api=HfApi(gone.endpoint))


@pytest.mark.slow
def test_the_verb_uploads_what_it_writes(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "tests/data/written_by_0_1_0/vista", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    assert vidpref.main(["export", "run", "--output", "out", "--push_to_hub", "me/vista", "--private"]) == 0
    written = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    assert hub.repositories["me/vista"].files == written
    assert hub.repositories["me/vista"].commits[0][0].startswith("VistaDPO, optimizer step ")
    # Without a network: the same folder, and an error that says so.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert vidpref.main(["export", "run", "--output", "offline", "--push_to_hub", "me/vista"]) == 1
    assert {path.name: path.read_bytes() for path in Path("offline").iterdir()} == written
    shown = capsys.readouterr()
    assert "not uploaded: HF_HUB_OFFLINE is set. The export is whole in offline" in shown.err
    assert TOKEN not in shown.out + shown.err


def test_a_name_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    for name in ("a/b/c", "me/vis ta", "me/x--y"):
        with pytest.raises(ValueError, match=rf"--push_to_hub {name}: no name for a repository: .*OWNER/NAME"):
            export_run(str(tmp_path), push_to_hub=name)
    with pytest.raises(ValueError, match="give --push_to_hub OWNER/NAME, too"):
        export_run(str(tmp_path), private=True)
