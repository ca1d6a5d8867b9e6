"""Predicted samples as shards: order, continuing, and what is refused."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from lightning.pytorch import Trainer

from callbacks.writers.shards import ShardWriter
from datamodules.schemas import write_shards
from datamodules.shards.index import Index, digest
from datamodules.shards.sample_reader import SampleReader
from datamodules.stream.predict_outputs import WrittenSample
from lightning_modules.file_contents import contents_of
from tests.support.kills import contents
from tests.support.other_writer import other_writer
from tests.support.predict_fakes import MEMBER, Maker, Source
from tests.support.shard_writer_runs import KEYS, killed_when_joined, names, run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return folder


def test_samples_are_joined_in_the_sources_order_and_the_parts_removed(whole: Path) -> None:
    index = Index.read(whole / "out.index.json", "vidpref/side")
    assert [entry.key for entry in index.entries] == KEYS
    assert index.shard_counts == [4, 2]
    assert index.made_from == {"fingerprint": "source", "seed": 0, "sizes": [1, 2]}
    assert SampleReader(index).read(3) == dict(Maker().sample(KEYS[3]).members)
    assert names(whole) == ["out-000000.tar", "out-000001.tar", "out.index.json"]


def test_an_interrupted_run_goes_on_and_makes_nothing_twice(whole: Path, tmp_path: Path) -> None:
    first = run(tmp_path, Maker(fails_at="d"))
    assert first.made == KEYS[:4]
    assert names(tmp_path) == ["out.parts"]
    second = run(tmp_path, data=Source(KEYS, batch_size=1))
    assert second.made == KEYS[4:]
    assert names(tmp_path) == names(whole)
    assert all((tmp_path / name).read_bytes() == (whole / name).read_bytes() for name in names(whole))


def test_a_run_that_joins_is_left_alone(whole: Path, tmp_path: Path) -> None:
    """Its shards are there before its index is, as after a kill: a second run deleted them."""
    run(tmp_path, Maker(fails_at="d"))
    joined = "from pathlib import Path; Path({!r}).touch(); Path({!r}).write_text('finished')".format(
        str(tmp_path / "out.parts/joining"), str(tmp_path / "out-000000.tar")
    )
    with other_writer(tmp_path / "out", False, joined), pytest.raises(OSError, match="is being written by process"):
        run(tmp_path)
    assert (tmp_path / "out-000000.tar").read_text() == "finished"
    run(tmp_path)  # the other was killed
    assert all((tmp_path / name).read_bytes() == (whole / name).read_bytes() for name in names(whole))
    assert names(tmp_path) == names(whole), "no lock is left"


@pytest.mark.parametrize("cut", [1, 40])
def test_a_sample_that_a_kill_cut_is_made_again(cut: int, whole: Path, tmp_path: Path) -> None:
    """Its line has no end, while its bytes are in the tar, whole or not."""
    run(tmp_path, Maker(fails_at="d"))
    (lines,) = (tmp_path / "out.parts").glob("*.jsonl")
    lines.write_bytes(lines.read_bytes()[:-cut])
    second = run(tmp_path)
    assert second.made == KEYS[3:]
    assert contents(tmp_path) == contents(whole)


def test_lines_behind_a_damaged_one_are_not_trusted(whole: Path, tmp_path: Path) -> None:
    """A power cut may leave zeros where a line was."""
    run(tmp_path, Maker(fails_at="d"))
    (lines,) = (tmp_path / "out.parts").glob("*.jsonl")
    content = lines.read_bytes().split(b"\n")
    lines.write_bytes(b"\n".join([content[0], bytes(len(content[1])), *content[2:]]))
    assert run(tmp_path).made == KEYS[1:]
    assert contents(tmp_path) == contents(whole)


def test_a_tar_that_lost_its_end_has_the_samples_before_it(whole: Path, tmp_path: Path) -> None:
    """As after a power cut that kept the lines, or in an unfinished copy."""
    run(tmp_path, Maker(fails_at="d"))
    (tar,) = (tmp_path / "out.parts").glob("*.tar")
    tar.write_bytes(tar.read_bytes()[: tar.stat().st_size // 2])
    assert run(tmp_path).made == KEYS[2:]
    assert contents(tmp_path) == contents(whole)


def test_a_process_keeps_two_files_however_many_samples_it_makes(tmp_path: Path) -> None:
    run(tmp_path, Maker(fails_at="d"))
    assert sorted(path.suffix for path in (tmp_path / "out.parts").iterdir()) == [".json", ".jsonl", ".tar"]
    run(tmp_path, Maker(fails_at="e"), Source(KEYS, batch_size=1))
    assert len(list((tmp_path / "out.parts").glob("*.tar"))) == 2, "a later start has files of its own"
    with tarfile.open(next((tmp_path / "out.parts").glob("*.tar"))) as tar:
        assert all(name.endswith(f".{MEMBER}") for name in tar.getnames())


def test_parts_of_a_former_release_are_continued(whole: Path, tmp_path: Path) -> None:
    """It wrote each sample as a shard of its own."""
    run(tmp_path, Maker(fails_at="b/2"))
    for key in KEYS[:3]:
        sample = Maker().sample(key)
        name = tmp_path / "out.parts" / digest(key.encode())
        write_shards([(key, sample.members)], name, "vidpref/side", facts_of=lambda *_: {})
    (tmp_path / "out.parts" / f"{'0' * 32}-000000.tar.tmp").write_text("half")
    assert run(tmp_path).made == KEYS[3:]
    assert contents(tmp_path) == contents(whole)


def test_a_kill_while_joining_leaves_nothing_to_make(whole: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("datamodules.shards.commit.sync_folder", killed_when_joined())
    run(tmp_path)
    monkeypatch.undo()
    assert (tmp_path / "out-000000.tar").exists()
    assert not (tmp_path / "out.index.json").exists()
    assert run(tmp_path).made == []
    assert names(tmp_path) == names(whole)


def test_a_finished_run_does_nothing_and_clears_what_a_kill_left(whole: Path, tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / "out.parts").mkdir()
    (tmp_path / "out.parts" / f"{'0' * 32}-000000.tar").write_text("")
    assert run(tmp_path).made == []
    assert names(tmp_path) == names(whole)


def test_other_settings_are_refused_with_the_remedy(tmp_path: Path) -> None:
    run(tmp_path, Maker(fails_at="d"))
    with pytest.raises(ValueError, match=r"out\.parts was made with other settings: seed was 0, is 1; .*delete that"):
        run(tmp_path, Maker(seed=1))
    assert run(tmp_path).made == KEYS[4:], "the refusal has harmed nothing"
    with pytest.raises(ValueError, match=r"out\.index\.json was made with other settings: seed was 0, is 1; choose"):
        run(tmp_path, Maker(seed=1))


class OfFiles(Maker):
    """Made with a policy whose weights are in a file; `records` is whether this release records its content."""

    def __init__(self, weights: Path, records: bool = True, fails_at: str | None = None) -> None:
        super().__init__(fails_at=fails_at)
        self.weights, self.records = str(weights), records

    def made_from(self, trainer: Trainer) -> dict[str, Any]:
        files = SimpleNamespace(path=self.weights)
        contents = {"contents": contents_of(files)} if self.records else {}
        return {**super().made_from(trainer), "policy": {"path": self.weights, **contents}}


def test_replaced_base_weights_are_refused_in_a_begun_and_in_a_finished_run(tmp_path: Path) -> None:
    weights = tmp_path / "base.safetensors"
    weights.write_bytes(b"one")
    run(tmp_path, OfFiles(weights, fails_at="d"))
    weights.write_bytes(b"two")
    replaced = r"the files that policy\.path names have been replaced: their hash was"
    with pytest.raises(ValueError, match=rf"out\.parts was made with other settings: {replaced}"):
        run(tmp_path, OfFiles(weights))
    weights.write_bytes(b"one")
    assert run(tmp_path, OfFiles(weights)).made == KEYS[4:]
    weights.write_bytes(b"two")
    with pytest.raises(ValueError, match=rf"out\.index\.json was made with other settings: {replaced}"):
        run(tmp_path, OfFiles(weights))


def test_a_run_that_an_earlier_release_began_goes_on_and_claims_no_more_than_it_knows(tmp_path: Path) -> None:
    weights = tmp_path / "base.safetensors"
    weights.write_bytes(b"one")
    run(tmp_path, OfFiles(weights, records=False, fails_at="d"))
    unknown = r"begun by a release that did not record the content of the files in policy\.path"
    with pytest.warns(UserWarning, match=unknown):
        assert run(tmp_path, OfFiles(weights)).made == KEYS[4:]
    assert Index.read(tmp_path / "out.index.json").made_from["policy"] == {"path": str(weights)}
    with pytest.warns(UserWarning, match=unknown):
        assert run(tmp_path, OfFiles(weights)).made == []


def test_a_finished_index_without_some_samples_is_refused(whole: Path) -> None:
    with pytest.raises(ValueError, match="finished without 1 of 7 samples, the first is 'new'"):
        run(whole, data=Source([*KEYS, "new"]))


def test_a_finished_run_that_skipped_samples_does_nothing(tmp_path: Path) -> None:
    class Damaged(Source):
        bad_samples: ClassVar = {"c": "undecodable"}  # as a `PlannedData` says it, whose loader leaves them out

        def items(self) -> list[Any]:
            return [key for key in super().items() if key not in self.bad_samples]

    assert run(tmp_path, data=Damaged(KEYS)).made == [key for key in KEYS if key != "c"]
    assert Index.read(tmp_path / "out.index.json").made_from["skipped"] == ["c"]
    assert run(tmp_path, data=Damaged(KEYS)).made == []
    with pytest.raises(ValueError, match="finished without 1 of 7 samples, the first is 'new'"):
        run(tmp_path, data=Damaged([*KEYS, "new"]))


def test_a_place_that_cannot_be_made_stops_every_rank_with_the_same_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    writer = ShardWriter(str(tmp_path / "file" / "out"))
    messages = []
    for rank in (0, 1):
        strategy: Any = SimpleNamespace(broadcast=lambda message: message or messages[0], barrier=lambda name: None)
        trainer: Any = SimpleNamespace(
            datamodule=Source(KEYS), is_global_zero=rank == 0, strategy=strategy, predict_loop=SimpleNamespace()
        )
        with pytest.raises(OSError, match=r"out\.parts cannot be prepared: .*Not a directory") as caught:
            writer.setup(trainer, SimpleNamespace(schema="vidpref/side", made_from=lambda trainer: {}), "predict")  # type: ignore[arg-type]
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_settings_that_cannot_be_read_stop_every_rank_with_the_same_words(tmp_path: Path) -> None:
    """Rank 0 alone reads the weights; the others hear of it instead of waiting."""
    sent: list[Any] = []

    def unreadable(trainer: Trainer) -> dict[str, Any]:
        assert trainer.is_global_zero, "the weights are read once"
        raise PermissionError("base.safetensors cannot be read")

    for rank in (0, 1):
        strategy: Any = SimpleNamespace(broadcast=lambda value: sent[0] if sent else sent.append(value) or value)
        trainer: Any = SimpleNamespace(
            datamodule=Source(KEYS), is_global_zero=rank == 0, strategy=strategy, predict_loop=SimpleNamespace()
        )
        module: Any = SimpleNamespace(schema="vidpref/side", made_from=unreadable)
        with pytest.raises(ValueError, match=r"base\.safetensors cannot be read"):
            ShardWriter(str(tmp_path / "out")).setup(trainer, module, "predict")
    assert names(tmp_path) == []


def test_a_sample_that_is_none_of_its_schema_stops_the_run_at_once(tmp_path: Path) -> None:
    class Wrong(Maker):
        schema = "vidpref/pairs"

    module = Wrong()
    with pytest.raises(ValueError, match="b/2"):
        run(tmp_path, module)
    assert module.made == KEYS[:2]


def test_a_refused_member_stops_the_run(tmp_path: Path) -> None:
    class Pickler(Maker):
        def sample(self, key: str) -> WrittenSample:
            return WrittenSample(key, {"pkl": b""})

    with pytest.raises(ValueError, match=r"member \.pkl is refused"):
        run(tmp_path, Pickler())


def test_settings_are_beside_the_parts(tmp_path: Path) -> None:
    run(tmp_path, Maker(fails_at="a"))
    settings = json.loads((tmp_path / "out.parts/settings.json").read_text())
    assert settings == {"schema": "vidpref/side", "fingerprint": "source", "seed": 0, "sizes": [1, 2]}


def test_samples_per_shard_must_be_positive() -> None:
    with pytest.raises(ValueError, match="samples_per_shard is 0"):
        ShardWriter("out", 0)


def test_members_come_back(whole: Path) -> None:
    assert set(Index.read(whole / "out.index.json").entries[0].members) == {MEMBER}
