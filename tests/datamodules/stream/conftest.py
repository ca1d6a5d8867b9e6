"""Small shards."""

from __future__ import annotations

import pytest

from datamodules.shards.index import Index
from tests.support.shard_samples import small_shards


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return small_shards(tmp_path_factory.mktemp("stream"))
