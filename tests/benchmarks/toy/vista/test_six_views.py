import io
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from benchmarks.toy.vista.six_views import picture, sample_views
from datamodules.schemas import write_shards
from datamodules.video.codec import encode_mp4
from datamodules.video.facts import VideoFacts
from datamodules.vista.samples import VIEW_NAMES, Box, PreferenceRow


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two samples: the first without event and boxes, the second with all that the six views need."""
    facts = VideoFacts(16, 8.0, 32, 32)
    box, event = (Box(4, 4, 8, 8, 0.5),), (0.0, 1.0)
    samples = []
    for number, annotation in enumerate([{}, {"boxes": box, "event": event}]):
        frames = np.random.default_rng(number).integers(0, 255, (16, 32, 32, 3), dtype=np.uint8)
        row = PreferenceRow(f"s{number}", f"v{number}", "Why?", "Yes.", "No.", facts, "A dog.", **annotation)
        samples.append((row.key, {"mp4": encode_mp4(frames, 8.0), "json": json.dumps(row.to_json()).encode()}))
    folder = tmp_path_factory.mktemp("shards")
    write_shards(samples, folder / "val")
    return folder / "val.index.json"


def test_a_sample_with_all_six_views_is_chosen(index: Path) -> None:
    views = sample_views(index, num_frames=4)
    assert [view.name for view in views] == list(VIEW_NAMES)
    assert all(view.frames.shape == (4, 3, 32, 32) for view in views)
    assert views[0].answers == {"chosen": "Yes.", "rejected": "No.", "irrelevant": "A dog."}
    assert [view.answers for view in views[1:]] == [{"chosen": "Yes."}] * 5


def test_a_named_sample_shows_the_views_it_has(index: Path) -> None:
    assert [view.name for view in sample_views(index, "s0")] == ["original", "video_negative"]
    with pytest.raises(ValueError, match="no sample 's9'"):
        sample_views(index, "s9")


def test_the_picture_shows_every_view_and_has_no_background(index: Path) -> None:
    few, all_six = (imread(io.BytesIO(picture(sample_views(index, key)))) for key in ("s0", "s1"))
    assert all_six.shape[0] > 2 * few.shape[0]
    assert all_six[0, 0, 3] == 0
    assert (all_six[..., 3] == 1).mean() > 0.2
