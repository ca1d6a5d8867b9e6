"""The page's server: token, videos by byte range, windows and names, and what goes wrong in words."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")

from starlette.testclient import TestClient

from benchmarks.labelling.agreement import AgreementView, read_judge
from benchmarks.labelling.annotators import SILENCE_S, Annotators, NameTakenError, UnknownSessionError
from benchmarks.labelling.app import build_app
from benchmarks.labelling.label_file import LabelFile
from benchmarks.labelling.labelling import Labelling
from benchmarks.labelling.media import UnsatisfiableRangeError, byte_range
from benchmarks.labelling.pairs import ShownPairs
from datamodules.prepare.judgements import read_judgements
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from tests.support.flow_shards import write_labels
from tests.support.judged_pairs import write_judged_pairs

TOKEN = "secret-word"  # noqa: S105 guards nothing
ANN, BOB = "a" * 32, "b" * 32


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(write_judged_pairs(tmp_path_factory.mktemp("pairs")))


@pytest.fixture
def labelling(shards: Path, tmp_path: Path) -> Labelling:
    return Labelling(ShownPairs(shards), LabelFile(tmp_path / "labels.csv"), repeats=0)


@pytest.fixture
def client(labelling: Labelling) -> Iterator[TestClient]:
    app = build_app(labelling, AgreementView(labelling.pairs, labelling.file), TOKEN)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


def get(client: TestClient, path: str, session: str = ANN, **headers: str) -> Any:
    return client.get(f"/{TOKEN}/{path}", headers={"X-Session": session, **headers})


def post(client: TestClient, path: str, body: object, session: str = ANN) -> Any:
    return client.post(f"/{TOKEN}/{path}", json=body, headers={"X-Session": session})


def join(client: TestClient, name: object = "Ann", session: str = ANN) -> Any:
    return post(client, "api/join", {"session": session, "annotator": name}, session)


def answer(client: TestClient, state: Any, given: str = "left", session: str = ANN) -> Any:
    named = {name: state["question"][name] for name in ("number", "key", "segment", "repeat")}
    return post(client, "api/answer", {**named, "answer": given}, session)


@pytest.mark.parametrize("path", ["/", "/index.html", "/wrong/", "/wrong/api/question", "/Secret-Word/", "/wrong/../"])
def test_without_the_token_nothing_is_shown(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 403
    assert "lacks its token" in response.text
    assert client.post(path, json={}).status_code == 403


def test_the_page_comes_with_all_its_parts_and_asks_nobody_else(client: TestClient) -> None:
    for page in ("", "agreement.html"):
        response = get(client, page)
        assert response.status_code == 200
        assert response.headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert "http" not in response.text.replace("http-equiv", ""), "no address of another machine"
    static = Path(__file__).parents[3] / "benchmarks/labelling/static"
    for file in static.rglob("*.*"):
        response = get(client, str(file.relative_to(static)))
        assert response.content == file.read_bytes()
        assert "http://" not in response.text
        assert "https://" not in response.text


@pytest.mark.parametrize(
    "path",
    [
        "media/none.mp4",
        "media/p00.mp4",
        "media/../app.py",
        "..%2fapp.py",
        "%2e%2e/app.py",
        "js/../../app.py",
        "etc/passwd",
    ],
)
def test_a_path_outside_the_shards_and_the_page_is_not_found(client: TestClient, path: str) -> None:
    assert get(client, path).status_code in (403, 404)
    assert b"import" not in get(client, path).content


def test_videos_are_those_of_the_shards(client: TestClient, labelling: Labelling, shards: Path) -> None:
    join(client)
    question = get(client, "api/question").json()["question"]
    asked = labelling.questions("Ann")[0]
    stored = SampleReader(Index.read(shards)).read(asked.position)
    assert get(client, question["left"]).content == stored[f"{asked.left}.mp4"]
    assert get(client, question["right"]).content == stored[f"{asked.right}.mp4"]
    for side in ("left", "right"):
        name = question[side].lower()
        assert not [word for word in ("first", "second", "p0") if word in name], "the address does not say which it is"


def test_byte_ranges(client: TestClient, labelling: Labelling) -> None:
    video = labelling.pairs.video(0, "first")
    path, size = f"media/{labelling.pairs.media_name(0, 'first')}.mp4", len(video.content)
    whole = get(client, path)
    tag = whole.headers["etag"]
    assert (whole.status_code, whole.headers["accept-ranges"], tag) == (200, "bytes", f'"{video.checksum}"')
    assert whole.headers["content-type"] == "video/mp4"
    for header, span in (("bytes=0-9", (0, 10)), ("bytes=10-", (10, size)), ("bytes=-7", (size - 7, size)),
                         (f"bytes=5-{size + 99}", (5, size))):  # fmt: skip
        part = get(client, path, Range=header)
        assert (part.status_code, part.content) == (206, video.content[span[0] : span[1]])
        assert part.headers["content-range"] == f"bytes {span[0]}-{span[1] - 1}/{size}"
        assert part.headers["content-length"] == str(span[1] - span[0])
    for header in ("lines=0-9", "bytes=0-4,6-8", "bytes=9-3", "bytes=-", "nonsense"):
        assert get(client, path, Range=header).content == video.content
    beyond = get(client, path, Range=f"bytes={size}-")
    assert (beyond.status_code, beyond.headers["content-range"], beyond.content) == (416, f"bytes */{size}", b"")
    assert get(client, path, **{"Range": "bytes=0-9", "If-Range": tag}).status_code == 206
    other = get(client, path, **{"Range": "bytes=0-9", "If-Range": '"another"'})
    assert (other.status_code, other.content) == (200, video.content)
    assert get(client, path, **{"If-None-Match": tag}).status_code == 304
    head = client.head(f"/{TOKEN}/{path}")
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(size), b"")


def test_byte_range_of_short_files() -> None:
    assert byte_range("bytes=-100", 10) == range(10)
    assert byte_range(None, 10) is None
    for header, size in (("bytes=-0", 10), ("bytes=0-", 0)):
        with pytest.raises(UnsatisfiableRangeError):
            byte_range(header, size)


def test_answers_and_progress(client: TestClient, labelling: Labelling) -> None:
    assert join(client, "  Ann ").json() == {"annotator": "Ann", "granularity": "segments"}
    state = get(client, "api/question").json()
    assert state["question"]["prompt"].startswith("A disc moves, p0")
    assert (state["question"]["fps"], state["question"]["frames"], state["question"]["aspect"]) == (4.0, 13, 2.0)
    following = answer(client, state, "tie").json()
    assert (following["question"]["number"], following["progress"]["answered"]) == (1, 1)
    (row,) = read_judgements(labelling.file.path)
    assert (row.annotator, row.label, row.side) == ("Ann", 0, labelling.questions("Ann")[0].left)
    assert get(client, "api/question?before=1").json()["question"]["answer"] == "tie"
    assert get(client, "api/question?number=2").json()["question"]["number"] == 2
    assert get(client, "api/question?after=3").json()["question"]["number"] == 4


def test_two_windows_of_one_name(client: TestClient) -> None:
    join(client)
    refused = join(client, "ann", BOB)
    assert (refused.status_code, refused.json()["code"]) == (409, "name_taken")
    assert "Ann is labelling in another window. Go on there, or choose another name" in refused.json()["error"]
    assert join(client).status_code == 200, "the same window joins again, as after a reload"
    assert join(client, "Bob", BOB).status_code == 200
    assert post(client, "api/leave", {"session": ANN}).status_code == 204
    assert join(client, "ANN", BOB).json()["annotator"] == "ANN"


def test_a_name_is_spelled_as_in_the_file(client: TestClient) -> None:
    join(client)
    answer(client, get(client, "api/question").json())
    post(client, "api/leave", {"session": ANN})
    assert join(client, "ANN", BOB).json()["annotator"] == "Ann"


def test_silent_windows_are_gone() -> None:
    now = 0.0
    annotators = Annotators(lambda: now)
    annotators.join(ANN, "Ann")
    now = SILENCE_S - 1
    with pytest.raises(NameTakenError, match="try again in 1 seconds"):
        annotators.join(BOB, "Ann")
    assert annotators.annotator(ANN) == "Ann"  # is heard of
    now += SILENCE_S - 1
    assert annotators.annotator(ANN) == "Ann"
    now += SILENCE_S
    with pytest.raises(UnknownSessionError):
        annotators.annotator(ANN)
    annotators.join(BOB, "Ann")
    assert annotators.annotator(BOB) == "Ann"


@pytest.mark.parametrize("name", ["", "   ", "x" * 41, "a\nb", None, 7])
def test_names_that_are_none(client: TestClient, name: object) -> None:
    refused = join(client, name)
    assert (refused.status_code, refused.json()["error"]) == (400, "give a name of 1 to 40 visible characters")


@pytest.mark.parametrize(
    ("send", "status", "code"),
    [
        (lambda client: get(client, "api/question", BOB), 409, "join"),
        (lambda client: post(client, "api/alive", {}, BOB), 409, "join"),
        (lambda client: get(client, "api/question?number=999"), 409, "stale"),
        (lambda client: get(client, "api/question?number=one"), 400, "request"),
        (lambda client: post(client, "api/answer", {"number": 0, "answer": "left"}), 409, "stale"),
        (lambda client: post(client, "api/answer", {"answer": "both"}), 400, "request"),
        (lambda client: post(client, "api/answer", ["left"]), 400, "request"),
        (lambda client: post(client, "api/answer", {"answer": "x" * 70000}), 400, "request"),
        (lambda client: client.post(f"/{TOKEN}/api/answer", content=b"{", headers={"X-Session": ANN}), 400, "request"),
    ],
)
def test_requests_that_are_refused(
    client: TestClient, send: Callable[[TestClient], Any], status: int, code: str, labelling: Labelling
) -> None:
    join(client)
    response = send(client)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert labelling.file.judgements == []


def test_a_file_that_was_changed_meanwhile(client: TestClient, labelling: Labelling) -> None:
    join(client)
    labelling.file.path.write_text(labelling.file.path.read_text() + "p00,0,tie,bob,,,,0\n")
    refused = answer(client, get(client, "api/question").json())
    assert (refused.status_code, refused.json()["code"]) == (409, "changed")


def test_an_altered_video_is_named_and_the_next_can_be_asked_for(tmp_path: Path) -> None:
    path = Path(write_judged_pairs(tmp_path))
    labelling = Labelling(ShownPairs(path), LabelFile(tmp_path / "labels.csv"))
    member = labelling.pairs.index.entries[0].members["first.mp4"]
    shard = Path(labelling.pairs.index.address(0))
    content = bytearray(shard.read_bytes())
    content[member.offset + member.size // 2] ^= 1
    shard.write_bytes(bytes(content))
    with TestClient(build_app(labelling, AgreementView(labelling.pairs, labelling.file), TOKEN)) as client:
        altered = get(client, f"media/{labelling.pairs.media_name(0, 'first')}.mp4")
        assert altered.status_code == 422
        assert "sample 'p00': .first.mp4 was altered" in altered.json()["error"]
        assert get(client, f"media/{labelling.pairs.media_name(0, 'second')}.mp4").status_code == 200


def test_agreement_of_annotators_people_and_judge(shards: Path, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    ann, bob = (("first", "first", "tie"), ("first", "second", "tie"))
    lines = [f"p00,{k},{label},{who}" for who, each in (("ann", ann), ("bob", bob)) for k, label in enumerate(each)]
    path.write_text("key,segment,label,annotator\n" + "\n".join([*lines, "p01,0,tie,ann"]) + "\n")
    judge_path = write_labels(str(shards), {"p00": (1, 1, 0), "p01": (0, 0, 0), "p02": (1, 1, 1)}, name="judge")
    pairs = ShownPairs(shards)
    view = AgreementView(pairs, LabelFile(path), [read_judge(judge_path, pairs)])
    with TestClient(build_app(Labelling(pairs, view.file), view, TOKEN)) as client:
        summary = get(client, "api/agreement").json()
        rows = get(client, "api/agreement/pairs?only=disagreements").json()
        every = get(client, "api/agreement/pairs?offset=1&limit=1").json()
    assert [(source["name"], source["kind"], source["items"]) for source in summary["sources"]] == [
        ("ann", "person", 4), ("bob", "person", 3), ("people", "people", 4), ("tests", "judge", 9),
    ]  # fmt: skip
    table = {(row["first"], row["second"]): row for row in summary["table"]}
    assert {names: (row["items"], row["accuracy"]) for names, row in table.items()} == {
        ("ann", "bob"): (3, pytest.approx(2 / 3)),
        ("ann", "tests"): (4, 1.0),
        ("bob", "tests"): (3, pytest.approx(2 / 3)),
        # ann's first and bob's second video are a tie
        ("people", "tests"): (4, 0.75),
    }
    assert rows["total"] == 1
    (row,) = rows["pairs"]
    assert (row["key"], row["differs"]) == ("p00", [False, True, False])
    assert row["labels"] == {"ann": [1, 1, 0], "bob": [1, -1, 0], "tests": [1, 1, 0]}
    assert row["segments"] == [[0, 4], [4, 8], [8, 13]]
    assert (every["total"], [row["key"] for row in every["pairs"]]) == (3, ["p01"])
    assert every["pairs"][0]["labels"] == {"ann": [0, None, None], "bob": [None] * 3, "tests": [0, 0, 0]}


def test_a_judge_of_other_pairs_or_segments_is_refused(shards: Path, tmp_path: Path) -> None:
    pairs = ShownPairs(shards)
    with pytest.raises(ValueError, match="are labels of other pairs than"):
        read_judge(write_labels(str(shards), name="other", fingerprint="another"), pairs)
    long = write_labels(str(shards), [(1, 1)], name="long", frames_per_segment=8)
    with pytest.raises(ValueError, match="has segments of 8 frames, the page asks about 4"):
        read_judge(long, pairs)
    whole = ShownPairs(shards, granularity="whole")
    labels = read_judge(write_labels(str(shards), [(1, 1, -1)], name="three"), whole).labels
    assert json.dumps(sorted((place.key, place.segment, label) for place, label in labels.items())) == json.dumps(
        [(f"p0{number}", None, 1) for number in range(5)]
    )
