"""Labels without the pairs that make chosen videos stiller: a control of whether that is what takes a model's motion.

    python -m benchmarks.toy.dense.matched_labels LABELS.index.json PAIRS.measures.json OUTPUT.index.json

Of the pairs whose chosen video moves less than the rejected one, those with the largest difference are left out, until
chosen and rejected videos move equally on average.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.toy.dense.pair_measures import PairMeasures
from datamodules.dense.rows import LabelRow
from datamodules.schemas import write_shards
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader


def dropped_pairs(labels: Mapping[str, int], measures: PairMeasures) -> list[str]:
    """The pairs to leave out, the largest difference first.

    Args:
        labels: key -> +1 where the first video is chosen, -1 the second, 0 a tie.
        measures: of the same pairs.
    """
    pairs = zip(measures.keys, measures.speeds[:, 0] - measures.speeds[:, 1], strict=True)
    leads = {key: float(lead) * labels[key] for key, lead in pairs if labels.get(key)}
    surplus, dropped = sum(leads.values()), []
    for key in sorted(leads, key=lambda key: (leads[key], key)):
        if surplus >= 0:
            break
        surplus -= leads[key]
        dropped.append(key)
    return dropped


def write_matched_labels(labels: Path, measures: Path, output: Path) -> None:
    """Write the labels without the dropped pairs, and print how many these are.

    Args:
        labels: index of labels of whole videos.
        measures: what `pair_measures` wrote of the same pairs.
        output: index of the new labels.
    """
    index = Index.read(labels, "vidpref/labels")
    reader = SampleReader(index)
    members = {entry.key: reader.read(position, ["json"]) for position, entry in enumerate(index.entries)}
    preferences = {key: LabelRow.from_json(json.loads(content["json"])).preference for key, content in members.items()}
    dropped = set(dropped_pairs(preferences, PairMeasures.read(measures)))

    def samples() -> Iterator[tuple[str, dict[str, bytes]]]:
        for key, content in members.items():
            if key not in dropped:
                yield key, {"json": content["json"]}

    shards = str(output).removesuffix(".index.json")
    write_shards(samples(), shards, "vidpref/labels", made_from=index.made_from, samples_per_shard=1024)
    decided = sum(map(bool, preferences.values()))
    print(f"{len(dropped)} of {decided} decided pairs are left out, {decided - len(dropped)} remain: {output}")


def main(argv: Sequence[str] | None = None) -> None:
    """Write the labels."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.toy.dense.matched_labels", description=(__doc__ or "").split("\n")[0]
    )
    for name in ("labels", "measures", "output"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args(argv)
    write_matched_labels(options.labels, options.measures, options.output)


if __name__ == "__main__":
    main()
