"""Small shards of pairs with labels."""

from __future__ import annotations

import pytest

from tests.support.dense_pairs_harness import COUNT
from tests.support.flow_shards import FlowShards, write_flow_shards


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> FlowShards:
    return write_flow_shards(tmp_path_factory.mktemp("flow"), COUNT)
