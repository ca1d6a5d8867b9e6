"""Facts of an index's samples: kept while a data module is set up, and sent to no worker."""

from __future__ import annotations

import pickle
from pathlib import Path

from datamodules.shards.index import Index
from datamodules.vista.annotations import IndexedFacts
from datamodules.vista.facts import SampleFacts
from tests.support.shard_samples import small_shards


def test_facts_are_those_of_the_entries_kept_or_not(tmp_path: Path) -> None:
    small_shards(tmp_path, 9)
    index = Index.read(tmp_path / "train.index.json")
    expected = [SampleFacts.from_index(entry.key, entry.facts) for entry in index.entries]
    facts = IndexedFacts(index)
    assert (len(facts), facts[3], facts[7:]) == (9, expected[3], expected[7:])
    assert facts[3] is not facts[3]
    assert list(facts) == expected
    assert facts[3] is facts[3], "kept after all were made"
    size = len(pickle.dumps(facts)) - len(pickle.dumps(index))
    assert size < 200
    facts.forget()
    assert facts[3] is not facts[3]
