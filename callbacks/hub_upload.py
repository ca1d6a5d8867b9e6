"""Upload of an export to a hub, by the hub's own client."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from callbacks.secrets_in_text import without_secrets

#: The files of which an export of any family consists: card, weights, settings, tokenizer. No other one is uploaded.
UPLOADED = ("README.md", "*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")


def require_repository_name(name: str) -> None:
    """Refuse what can be no name on the hub, before anything is computed for it.

    Raises:
        ValueError: says what is wrong with the name.
    """
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ValueError(f"--push_to_hub {name}: no name for a repository: {error}; give OWNER/NAME") from None


def upload(folder: Path, name: str, private: bool, message: str, api: HfApi | None = None) -> str:
    """Upload an export's files in one commit; the repository is made if it is not there.

    Files that the repository has already with the same content are not sent again, and without any other there is no
    commit. Files that the export does not have stay in the repository.

    Args:
        folder: the export, whole.
        name: the repository, OWNER/NAME or the NAME of one's own.
        private: make the repository private; one that is public already is refused.
        message: of the commit.
        api: the client; None = one for the configured hub and the user's login.

    Returns:
        The repository's address.

    Raises:
        ConnectionError: the hub is not to be used (HF_HUB_OFFLINE), or cannot be reached.
        ValueError: there is no login, or the hub refuses it, the name or the card.
    """
    api = api or HfApi()
    with _readable_errors(folder, name, api.endpoint):
        if constants.HF_HUB_OFFLINE:
            raise OfflineModeIsEnabled
        if not (api.token or get_token()):
            raise LocalTokenNotFoundError
        repository = _existing_or_new(api, name, private)
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        names = [file for file in files if any(fnmatch(file, pattern) for pattern in UPLOADED)]
        if left_out := [file for file in files if file not in names]:
            print(f"not uploaded, as no part of an export: {', '.join(left_out)}")
        before = api.repo_info(repository).sha
        # The names and no patterns: `fnmatch` above decides, and hidden folders of the client are left out.
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message=message,
            allow_patterns=[re.sub(r"([\[*?])", r"[\1]", file) for file in names],
        )
    address = f"{api.endpoint}/{repository}"
    same = commit.oid == before
    print(
        f"nothing to upload: {address} has these files already" if same else f"uploaded: {address} ({len(names)} files)"
    )
    return address


def _existing_or_new(api: HfApi, name: str, private: bool) -> str:
    """The full name of a repository that is there when this returns."""
    full_name = name if "/" in name else f"{api.whoami()['name']}/{name}"
    try:
        existing = api.repo_info(full_name)
    except RepositoryNotFoundError:
        return str(api.create_repo(full_name, private=private, exist_ok=True).repo_id)
    if private and not existing.private:
        raise ValueError(
            f"--private: {full_name} exists and is public, so nothing was uploaded; make it private on its settings "
            "page, or give another name"
        )
    print(f"{full_name} exists; what differs there becomes a new commit, and files that the export lacks stay")
    return full_name


@contextmanager
def _readable_errors(folder: Path, name: str, endpoint: str) -> Iterator[None]:
    """Errors of the client as sentences that say what to do; with no token in them."""
    kept = f"The export is whole in {folder}; the same command again uploads it"
    try:
        yield
    except LocalTokenNotFoundError:
        raise ValueError(
            f"not uploaded: no login for {endpoint}. Run `hf auth login`, or set HF_TOKEN. {kept}"
        ) from None
    except OfflineModeIsEnabled:
        raise ConnectionError(f"not uploaded: HF_HUB_OFFLINE is set. {kept} without it") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        remedy = {
            401: "the token is not valid: run `hf auth login` again",
            403: f"this login may not write to {name}: take a token with the right to write, or another name",
        }.get(status, f"it answered with status {status}")
        reply = without_secrets((error.server_message or "").strip())
        raise ValueError(
            f"not uploaded: {endpoint} refused: {remedy}{f' ({reply})' if reply else ''}. {kept}"
        ) from None
    except httpx2.TransportError as error:
        cause = without_secrets(str(error))
        raise ConnectionError(f"not uploaded: {endpoint} cannot be reached ({cause}). {kept}") from None
