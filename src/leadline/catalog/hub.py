"""A model's ``config.json`` from the Hugging Face hub: from its local cache, else downloaded."""

from __future__ import annotations

import difflib
import os
import socket
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from leadline.catalog.reading import model_names
from leadline.errors import PlanError

_CONFIG = "config.json"


def download_config(hub_id: str) -> Path:
    """Where the ``config.json`` of a hub id lies now. ``HF_TOKEN`` is read from the environment."""
    if hub_id.count("/") != 1:
        raise _unknown(hub_id, "is neither a file, a folder, a hub id nor a model of the catalog")
    return find_cached(hub_id) or _download(hub_id)


def find_cached(hub_id: str) -> Path | None:
    """The newest ``config.json`` of a model that the hub's client has downloaded, if any."""
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    folder = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    found = folder.glob(f"models--{hub_id.replace('/', '--')}/snapshots/*/{_CONFIG}")
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _download(hub_id: str) -> Path:
    if not can_reach_hub():
        raise _unknown(hub_id, "is not in the catalog, and the hub cannot be reached")
    from huggingface_hub import errors, hf_hub_download

    # False, not None: a token that some other tool stored must not be used unasked.
    token = os.environ.get("HF_TOKEN") or False
    try:
        return Path(hf_hub_download(hub_id, _CONFIG, token=token))
    except errors.GatedRepoError:
        raise _gated(hub_id) from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise _unknown(
            hub_id, "is not on the hub, or private to others (then set HF_TOKEN)"
        ) from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        raise _unknown(hub_id, "is not in the catalog, and the hub cannot be reached") from None
    except errors.EntryNotFoundError:
        raise _unknown(hub_id, f"has no {_CONFIG} on the hub") from None
    except errors.HfHubHTTPError as refused:
        if refused.response is not None and refused.response.status_code in (401, 403):
            raise _gated(hub_id) from None
        raise _unknown(hub_id, f"could not be read from the hub: {refused}") from None


def can_reach_hub() -> bool:
    """Whether the hub's name resolves; the hub's client would try for half a minute."""
    host = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co").hostname
    if getproxies():
        return True
    try:
        return bool(socket.getaddrinfo(host, None))
    except OSError:
        return False


def _gated(hub_id: str) -> PlanError:
    return PlanError(
        f"the hub refuses {hub_id} (401 or 403): it is gated",
        where="model",
        cure="accept its licence on its page and set HF_TOKEN, or name a folder with its files",
    )


def _unknown(hub_id: str, what: str) -> PlanError:
    names = {name.lower(): name for name in model_names()}
    short = {name.split("/")[-1].lower(): name for name in model_names()}
    close = difflib.get_close_matches(hub_id.lower(), [*names, *short], n=3)
    nearest = [(names | short)[key] for key in close] or list(model_names())
    return PlanError(
        f"{hub_id!r} {what}",
        where="model",
        cure="name a folder or file with its config.json, or a model of the catalog: "
        + ", ".join(dict.fromkeys(nearest)),
    )
