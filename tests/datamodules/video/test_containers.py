"""Files with a video's name: which are opened, as what, and what is said of the others."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import av
import numpy as np
import pytest

from datamodules.prepare.own_videos import prepare_jsonl
from datamodules.prepare.videos import prepare_videos
from datamodules.questions.base import _fault
from datamodules.video.codec import decode_frames, probe
from datamodules.video.containers import container_format
from datamodules.video.facts import VideoFacts
from tests.support.paths import DATA

CASES = DATA / "cases" / "videos"
#: File -> what must be said of it.
REFUSED = {
    "ffconcat.mp4": "is an ffconcat script, which names other files",
    "sdp.mp4": "is an SDP session, which names network addresses",
    "html.mp4": "is a web page",
    "lfs.mp4": "is a git-lfs pointer, not the video itself; fetch it with `git lfs pull`",
}
HLS = b"#EXTM3U\n#EXTINF:1,\nok.mp4\n#EXT-X-ENDLIST\n"
DASH = b'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>ok.mp4</BaseURL></MPD>\n'


@pytest.mark.parametrize("held", [False, True], ids=["path", "bytes"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_only_bears_the_name_of_a_video_is_refused_at_once(name: str, held: bool) -> None:
    path = CASES / name
    begin = time.monotonic()
    with pytest.raises(ValueError, match=f"^undecodable video: {REFUSED[name]}"):
        probe(path.read_bytes() if held else path)
    assert time.monotonic() - begin < 2  # ffmpeg listens to an SDP session for 20 s


def test_a_script_opens_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    original = av.open

    def watched(source: object, *args: object, **options: object) -> object:
        opened.append(str(source))
        return original(source, *args, **options)

    monkeypatch.setattr(av, "open", watched)
    for name in REFUSED:
        with pytest.raises(ValueError, match="undecodable"):
            decode_frames(CASES / name, [0])
    assert opened == []
    assert probe(CASES / "ok.mp4") == VideoFacts(24, 12.0, 320, 240)
    assert set(opened) == {str(CASES / "ok.mp4")}


@pytest.mark.parametrize(("content", "message"), [(HLS, "is an HLS playlist"), (DASH, "is a DASH manifest")])
def test_playlists_and_manifests_are_scripts_too(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=f"undecodable video: {message}"):
        probe(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\xef\xbb\xbf\n ffconcat version 1.0\n", "is an ffconcat script"),
        (b"<!DOCTYPE HTML>\n<body>", "is a web page"),
        (b"<?xml version='1.0'?><Error>denied</Error>", "is an XML or HTML text"),
        (bytes(100), r"its first bytes, b'\\x00.*', begin no container that is read here \(mov, matroska, avi"),
    ],
)
def test_what_the_first_bytes_say(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        container_format(content)


@pytest.mark.parametrize(
    ("ending", "codec", "pixels", "kind"),
    [
        ("mp4", "mpeg4", "yuv420p", "mov"),
        ("mov", "mpeg4", "yuv420p", "mov"),
        ("mkv", "mpeg4", "yuv420p", "matroska"),
        ("webm", "libvpx", "yuv420p", "matroska"),
        ("avi", "mpeg4", "yuv420p", "avi"),
        ("gif", "gif", "rgb8", "gif"),
        ("ts", "mpeg2video", "yuv420p", "mpegts"),
        ("m2ts", "mpeg2video", "yuv420p", "mpegts"),
        ("mpg", "mpeg2video", "yuv420p", "mpeg"),
        ("flv", "flv", "yuv420p", "flv"),
        ("wmv", "mpeg4", "yuv420p", "asf"),
    ],
)
def test_containers_are_known_by_their_bytes_not_by_their_name(
    tmp_path: Path, ending: str, codec: str, pixels: str, kind: str
) -> None:
    written = tmp_path / f"video.{ending}"
    with av.open(str(written), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        for _ in range(5):
            image = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 200, np.uint8), format="rgb24")
            container.mux(stream.encode(image.reformat(format=pixels)))
        container.mux(stream.encode(None))
    renamed = written.rename(tmp_path / "any.mp4")
    assert container_format(renamed.read_bytes()[:1024]) == kind
    for video in (renamed, renamed.read_bytes()):
        assert decode_frames(video, [4]).float().mean().item() == pytest.approx(200, abs=4)


def test_a_named_pipe_is_a_fault_and_nothing_waits_for_it(tmp_path: Path) -> None:
    pipe = tmp_path / "x.mp4"
    os.mkfifo(pipe)
    (tmp_path / "x.txt").write_text("a red square")
    message = "x.mp4 is not a regular file but a named pipe"
    with pytest.raises(ValueError, match=message):
        probe(pipe)
    with pytest.raises(ValueError, match=f"1 of 1 rows are bad(.|\n)*x.mp4, video: undecodable video: .*{message}"):
        prepare_videos([str(tmp_path)], str(tmp_path / "out"))
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"video": "x.mp4", "question": "What?", "chosen": "a", "rejected": "b"}\n')
    with pytest.raises(ValueError, match=f"row 1, video: undecodable video: .*{message}"):
        prepare_jsonl(rows, tmp_path / "out")
    assert message in _fault(pipe)


def test_a_caption_that_is_a_named_pipe_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes((CASES / "ok.mp4").read_bytes())
    os.mkfifo(tmp_path / "x.txt")
    with pytest.raises(ValueError, match=r"caption: x\.txt cannot be read .*is not a regular file but a named pipe"):
        prepare_videos([str(tmp_path)], str(tmp_path / "out"))


@pytest.mark.parametrize("kind", ["folder", "socket"])
def test_folders_and_sockets_are_no_videos(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's address is short
    if kind == "folder":
        Path("x.mp4").mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("x.mp4")
    with pytest.raises(ValueError, match=f"x.mp4 is not a regular file but a {kind}"):
        probe("x.mp4")
