"""Whatever a callback or a verb holds of the machine, it gives back: after its work, and after an error."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from callbacks.cli import check_line
from callbacks.cli.verbs.check import checked
from callbacks.writers.video_folder import VideoFolderWriter
from datamodules.stream.predict_outputs import VideoRequest
from tests.support.predict_fakes import Requests, VideoMaker, predict


class LockedMaker(VideoMaker):
    """Notes whether the folder is locked while its videos are made, and may fail then."""

    def __init__(self, lock: Path, fails: bool) -> None:
        super().__init__()
        self.lock, self.fails = lock, fails
        self.locked: list[bool] = []

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        self.locked.append(self.lock.exists())
        if self.fails:
            raise RuntimeError("no memory is left")
        return super().predict_step(batch, batch_idx)


@pytest.mark.parametrize("fails", [False, True])
def test_a_writers_folder_is_locked_no_longer(tmp_path: Path, fails: bool) -> None:
    folder = tmp_path / "videos"
    module, requests = LockedMaker(folder / ".lock", fails), Requests([VideoRequest("a", "a dog", 0)])
    with pytest.raises(RuntimeError, match="no memory is left") if fails else nullcontext():
        predict(VideoFolderWriter(str(folder)), module, requests)
    assert module.locked == [True]
    assert not module.lock.exists()


@pytest.mark.parametrize("failure", [None, RuntimeError("the model cannot be made")])
def test_the_folder_in_which_a_check_writes_is_removed(
    monkeypatch: pytest.MonkeyPatch, failure: Exception | None
) -> None:
    folders: list[Path] = []

    class Line:
        """A check that leaves a file behind."""

        check = "no faults"

        def __init__(self, arguments: list[str], scratch: str) -> None:
            folders.append(Path(scratch))
            (folders[0] / "answers.jsonl").write_text("")
            if failure is not None:
                raise failure

    monkeypatch.setattr(check_line, "CheckLine", Line)
    if failure is None:
        assert checked(["fit"]) == "no faults"
    else:
        with pytest.raises(RuntimeError, match="cannot be made"):
            checked(["fit"])
    assert [folder.exists() for folder in folders] == [False]
