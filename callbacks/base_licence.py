"""The licence of a base model, from its own card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import yaml
from huggingface_hub import ModelCard, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

if TYPE_CHECKING:
    from huggingface_hub import HfApi

UNKNOWN = "unknown: the base has no card here that names one; look at its page before you share this"
_LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING")


def base_licence(base: str, api: HfApi | None = None) -> str:
    """The licence that the card of a base names; where it has no card, that it has a licence file, or `UNKNOWN`.

    Args:
        base: a local folder, or a name on the hub, whose card is read from the local cache.
        api: asked for a card that is not here; None = no network.
    """
    folder = Path(base)
    if folder.is_dir():
        if licence := _of_card(folder / "README.md"):
            return licence
        file = next((name for name in _LICENCE_FILES if (folder / name).is_file()), None)
        return UNKNOWN if file is None else f"see {file} of the base"
    try:
        cached = try_to_load_from_cache(base, "README.md")
    except HFValidationError:
        return UNKNOWN
    if isinstance(cached, str) and (licence := _of_card(Path(cached))):
        return licence
    if api is None:
        return UNKNOWN
    try:
        data: Any = api.model_info(base, expand=["cardData"]).card_data
    except (HfHubHTTPError, httpx2.TransportError, OfflineModeIsEnabled):
        return UNKNOWN
    return _text(data.to_dict() if data is not None else {}) or UNKNOWN


def _of_card(path: Path) -> str | None:
    """The licence in a card's front matter; None = there is no card, or it names none."""
    try:
        return _text(ModelCard.load(path, ignore_metadata_errors=True).data.to_dict()) if path.is_file() else None
    except (OSError, ValueError, yaml.YAMLError):
        return None  # a card that nobody can read names no licence


def _text(data: dict[str, Any]) -> str | None:
    names = data.get("license")
    licence = ", ".join(map(str, names)) if isinstance(names, list) else names
    if not licence:
        return None
    # Licences that the hub has no short name for are "other", with a name and an address of their own.
    more = [str(data[key]) for key in ("license_name", "license_link") if data.get(key)]
    return f"{licence} ({', '.join(more)})" if more else str(licence)
