"""Whatever is opened is closed by the code that opened it, also after an error or an early stop.

Every test keeps a reference to what was opened, so that the garbage collector cannot close it instead.
"""

from __future__ import annotations

import io
import multiprocessing
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datamodules.schemas import write_shards
from datamodules.shards.byte_reader import BadSampleError, ByteReader
from datamodules.shards.checks import load_index
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from datamodules.shards.scan import scan_shard
from datamodules.video.codec import decode_frames, encode_mp4, probe, stream_frames
from tests.support.pairs_harness import Recorder, eleven_samples, pairs, trainer
from tests.support.shard_samples import flip_byte, samples, small_shards

Opened = list[Any]


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Every file that `Path.open` and every tar that `tarfile.open` opened."""
    opened: Opened = []

    def recording(original: Callable[..., Any]) -> Callable[..., Any]:
        def open_and_note(*args: Any, **settings: Any) -> Any:
            opened.append(original(*args, **settings))
            return opened[-1]

        return open_and_note

    monkeypatch.setattr(io, "open", recording(io.open))
    monkeypatch.setattr(tarfile, "open", recording(tarfile.open))
    return opened


class Container:
    """A video container that notes when it is left."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.closed = inner, False

    def __enter__(self) -> Any:
        return self.inner.__enter__()

    def __exit__(self, *error: object) -> None:
        self.inner.__exit__(*error)
        self.closed = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def close(self) -> None:
        self.inner.close()
        self.closed = True


@pytest.fixture
def containers(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Every video container that `av.open` opened."""
    opened: Opened = []
    original = av.open

    def open_and_note(*args: Any, **settings: Any) -> Container:
        opened.append(Container(original(*args, **settings)))
        return opened[-1]  # type: ignore[no-any-return]

    monkeypatch.setattr(av, "open", open_and_note)
    return opened


@pytest.fixture
def iterators(monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    """Every iterator of a `DataLoader`, which owns its worker processes."""
    opened: Opened = []
    original = DataLoader.__iter__

    def iterate_and_note(loader: Any) -> Any:
        opened.append(original(loader))
        return opened[-1]

    monkeypatch.setattr(DataLoader, "__iter__", iterate_and_note)
    yield opened
    for iterator in opened:
        iterator._shutdown_workers()  # a failed test must not leave them to the next one


def require_closed(opened: Opened, least: int = 1) -> None:
    assert len(opened) >= least, "the code no longer opens it where the test looks"
    assert all(resource.closed for resource in opened)


def test_shards_are_closed_when_they_are_written(tmp_path: Path, files: Opened) -> None:
    small_shards(tmp_path)
    require_closed(files, 5)


def test_shards_are_closed_when_writing_breaks_off(tmp_path: Path, files: Opened) -> None:
    def broken() -> Iterator[tuple[str, dict[str, bytes]]]:
        yield from samples(7)
        raise OSError("the source is gone")

    with pytest.raises(OSError, match="source is gone"):
        write_shards(broken(), tmp_path / "train", samples_per_shard=5)
    require_closed(files, 2)
    assert not list(tmp_path.iterdir())


def test_shards_are_closed_after_they_are_scanned_sound_or_not(tmp_path: Path, files: Opened) -> None:
    index = small_shards(tmp_path)
    path = Path(index.shards[0].address)
    files.clear()
    scan_shard(path, 0, lambda key, row, suffixes: {})
    require_closed(files, 3)
    files.clear()
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(ValueError, match="not a whole, uncompressed tar"):
        scan_shard(path, 0, lambda key, row, suffixes: {})
    require_closed(files)


def test_a_read_closes_its_shard_also_when_the_sample_is_bad(tmp_path: Path, files: Opened) -> None:
    index = small_shards(tmp_path)
    flip_byte(index, 3)
    path, index_path = index.address(0), str(tmp_path / "train.index.json")
    files.clear()
    Index.read(index_path)
    reader = SampleReader(load_index(index_path, "vidpref/vista"), ByteReader())
    reader.read(0)
    with pytest.raises(BadSampleError):
        reader.read(3)
    with pytest.raises(OSError, match="cut short"):
        ByteReader(attempts=1).read(path, Path(path).stat().st_size, 10, "what follows the end")
    require_closed(files, 3)


VIDEO = np.zeros((6, 16, 16, 3), np.uint8)


def test_videos_are_closed_after_encoding_and_decoding(containers: Opened) -> None:
    video = encode_mp4(VIDEO, 4.0)
    probe(video)
    decode_frames(video, [0, 2])
    require_closed(containers, 4)


def test_a_video_is_closed_when_decoding_stops_early(containers: Opened) -> None:
    stream = stream_frames(encode_mp4(VIDEO, 4.0), [0, 1, 2])
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    require_closed(containers, 2)


def test_a_video_is_closed_after_an_error(containers: Opened) -> None:
    with pytest.raises(ValueError, match="undecodable frame 9"):
        decode_frames(encode_mp4(VIDEO, 4.0), [9])
    with pytest.raises(ValueError, match="no picture stream"):
        probe(sound())
    with pytest.raises(ValueError, match="uint8"):
        encode_mp4(VIDEO.astype(np.float32), 4.0)
    require_closed(containers, 3)


def sound() -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="wav") as container:
        stream: Any = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 80), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


class Failing(Recorder):
    """Stops at its second step."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.seen:
            raise RuntimeError("the step failed")
        return super().training_step(batch, batch_idx)


def require_no_workers(iterators: Opened) -> None:
    assert iterators, "the loader no longer makes a DataLoader's iterator"
    assert multiprocessing.active_children() == []


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return eleven_samples(tmp_path_factory.mktemp("shards"))


def test_workers_end_with_a_run_that_stops_before_the_data(shards: Path, tmp_path: Path, iterators: Opened) -> None:
    """Stopped by the number of steps, in the middle of the second of several passes."""
    model = Recorder()
    trainer(tmp_path, max_steps=7, max_epochs=-1).fit(model, pairs(shards, num_workers=2))
    assert len(model.seen) == 7
    require_no_workers(iterators)


def test_workers_end_when_a_step_fails(shards: Path, tmp_path: Path, iterators: Opened) -> None:
    with pytest.raises(RuntimeError, match="the step failed") as caught:
        trainer(tmp_path, max_steps=9).fit(Failing(), pairs(shards, num_workers=2))
    require_no_workers(iterators)
    assert caught.value.__traceback__, "it holds the frames, and with them what they opened"


def test_workers_end_when_a_sample_is_bad(tmp_path: Path, iterators: Opened) -> None:
    shards = eleven_samples(tmp_path)
    flip_byte(Index.read(str(shards)), 3)
    with pytest.raises(BadSampleError, match="sample 's03'") as caught:
        trainer(tmp_path, max_steps=9).fit(Recorder(), pairs(shards, num_workers=2))
    require_no_workers(iterators)
    assert caught.value.__traceback__


def test_workers_of_validation_end_with_it_also_when_it_is_limited(
    shards: Path, tmp_path: Path, iterators: Opened
) -> None:
    model = Recorder()
    trainer(tmp_path, limit_val_batches=2).validate(model, pairs(shards, val=str(shards), num_workers=2), verbose=False)
    assert len(model.validated) == 4
    require_no_workers(iterators)
