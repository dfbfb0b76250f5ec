"""The endpoint target: a server somebody else runs. Nothing is started, nothing is stopped."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager

from leadline.deploy.standing import Standing
from leadline.errors import SpecError
from leadline.launch import Endpoint
from leadline.spec import EndpointTarget

API_KEY_ENV = "LEADLINE_API_KEY"


class Foreign:
    """A server of which nothing is known but its address, for ``leadline status``."""

    def __init__(self, url: str) -> None:
        self._url = EndpointTarget(url=url).url

    def services(self) -> list[Standing]:
        return [Standing(name=self._url, owner="", state="", url=self._url, image="")]

    @asynccontextmanager
    async def reach(self, standing: Standing) -> AsyncIterator[str | None]:
        yield standing.url

    def log(
        self, name: str, *, follow: bool = False, lines: int = 0, previous: bool = False
    ) -> Iterator[bytes]:
        """Its log is its owner's."""
        del name, follow, lines, previous
        return iter(())


def reach(target: EndpointTarget, model: str, environ: Mapping[str, str] = os.environ) -> Endpoint:
    """The endpoint with its credentials from the environment."""
    key = api_key(target, environ)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return Endpoint(url=target.url, model=model, headers=headers)


def api_key(target: EndpointTarget, environ: Mapping[str, str] = os.environ) -> str | None:
    """The key named by the target, else ``LEADLINE_API_KEY``, else none."""
    if target.api_key_env is None:
        return environ.get(API_KEY_ENV, "").strip() or None
    if target.api_key_env not in environ:
        raise SpecError(
            f"the environment has no {target.api_key_env}",
            where="target.api_key_env",
            cure=f"export {target.api_key_env}=… before running",
        )
    return environ[target.api_key_env].strip()
