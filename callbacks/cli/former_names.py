"""Names that version 0.1.0 had for keys and classes of configurations, and what they are called now."""

from __future__ import annotations

#: Key as it was, or its end -> its name now.
FORMER_KEYS = {
    "relevant_weight": "rejected_weight",
    "model.labels": "model.granularity",
    "model.segments": "model.granularity",
    "time_mean": "logit_mean",
    "time_std": "logit_std",
    "time_shift": "flow_shift",
    "model.shift": "model.flow_shift",
    "weights.temporal": "weights.clip",
}
FORMER_CLASSES = {"Questions": "VideoHallucerQuestions", "ReplaceIO": "AtomicCheckpointIO"}


def current_key(key: str) -> str:
    """The name that a configuration's dotted key has now; keys that kept theirs are returned as they are."""
    for former, current in FORMER_KEYS.items():
        if key == former or key.endswith(f".{former}"):
            return key.removesuffix(former) + current
    return key


def current_class(path: str) -> str:
    """The short name that a class has now, whatever module it was in."""
    name = path.rpartition(".")[2]
    return FORMER_CLASSES.get(name, name)
