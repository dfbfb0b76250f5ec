"""The models: here already, or to be had from the hub with the rights we have."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from leadline.catalog.hub import can_reach_hub, find_cached
from leadline.preflight.check import Check, Needs, State
from leadline.units import show_bytes

_WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth")
_WHOLE = 0.9
"""The plan counts a little more than the files' tensors."""
_GATED = "accept its licence on its page and export HF_TOKEN"


def check_models(needs: Needs) -> Iterator[Check]:
    reachable = can_reach_hub()
    token = "set" if os.environ.get("HF_TOKEN") else "not set"
    wanted = [name for name in needs.models if _is_hub_id(name)]
    if reachable:
        yield Check("hub", "ok", f"reachable; HF_TOKEN is {token}")
    else:
        state: State = "warn" if wanted else "absent"
        cure = "give models as folders, or fill HF_HOME beforehand" if wanted else ""
        yield Check("hub", state, f"not reachable; HF_TOKEN is {token}", cure)
    for name in wanted:
        yield _model(name, needs.weights.get(name, 0), reachable=reachable)


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and not Path(name).exists()


def cached_bytes(name: str) -> int:
    """Of the weights that the hub's client has downloaded."""
    config = find_cached(name)
    files = config.parent.iterdir() if config else ()
    return sum(file.stat().st_size for file in files if file.suffix in _WEIGHTS)


def _model(name: str, needed_bytes: int, *, reachable: bool) -> Check:
    have = cached_bytes(name)
    if have and have >= _WHOLE * needed_bytes:
        return Check(f"model {name}", "ok", f"in the cache: {show_bytes(have)} of weights")
    if not reachable:
        of = f" of {show_bytes(needed_bytes)}" if needed_bytes else ""
        found = f"{show_bytes(have)}{of} of its weights in the cache, and no hub"
        return Check(f"model {name}", "fail", found, "give a folder")
    from huggingface_hub import HfApi, errors

    try:
        HfApi(token=os.environ.get("HF_TOKEN") or False).auth_check(name)
    except errors.GatedRepoError:
        return Check(f"model {name}", "fail", "gated: the hub refuses it to us", _GATED)
    except errors.RepositoryNotFoundError:
        cure = "correct model; for a private one export HF_TOKEN"
        return Check(f"model {name}", "fail", "not on the hub, or private", cure)
    except (errors.HfHubHTTPError, OSError) as error:
        return Check(f"model {name}", "warn", f"could not be asked for: {error}", "try again")
    return Check(f"model {name}", "ok", "the hub gives it")
