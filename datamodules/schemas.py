"""The schemas of shards: what each puts into the index, and writing shards by their schema's name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.dense.facts import (
    label_sample_facts,
    latent_sample_facts,
    pair_sample_facts,
    video_pair_sample_facts,
    video_sample_facts,
)
from datamodules.shards.index import Index
from datamodules.shards.scan import FactsOf
from datamodules.shards.writer import index_tar_shards, write_tar_shards
from datamodules.vista.index_facts import vista_sample_facts


# Side shards add to other shards, whose index has the facts.
def _no_facts(key: str, record: Any, suffixes: Collection[str]) -> dict[str, Any]:
    return {}


#: Schema -> what describes its samples in the index, and refuses those that do not fit it.
FACTS: dict[str, FactsOf] = {
    "vidpref/vista": vista_sample_facts,
    "vidpref/side": _no_facts,
    "vidpref/videos": video_sample_facts,
    "vidpref/latents": latent_sample_facts,
    "vidpref/pairs": pair_sample_facts,
    "vidpref/video_pairs": video_pair_sample_facts,
    "vidpref/labels": label_sample_facts,
}


def write_shards(
    samples: Iterable[tuple[str, Mapping[str, bytes]]],
    output: str | Path,
    schema: str = "vidpref/vista",
    *,
    facts_of: FactsOf | None = None,
    **options: Any,
) -> Index:
    """`write_tar_shards`, each sample checked and described as its schema asks.

    Args:
        samples: (key, {suffix without the leading dot: content}) pairs.
        output: folder and common name, as ``data/train``; the folder is made if need be.
        schema: what the members mean, one of `SCHEMA_VERSIONS`.
        facts_of: makes the facts in the index; None = the schema's own.
        **options: `samples_per_shard`, `max_bytes`, `made_from` and `before_commit` of `write_tar_shards`.
    """
    return write_tar_shards(samples, output, schema, facts_of or FACTS[schema], **options)


def index_shards(
    paths: Sequence[str | Path], schema: str = "vidpref/vista", *, made_from: Mapping[str, Any] | None = None
) -> Index:
    """`index_tar_shards`, each sample checked and described as its schema asks."""
    return index_tar_shards(paths, schema, FACTS[schema], made_from=made_from)
