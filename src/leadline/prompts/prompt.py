"""A prompt, ready to be sent. Importing this costs nothing: numbers are crunched when asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING

from leadline.records import Needle

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Prompt:
    ids: Sequence[int] | NDArray[np.uint32]
    corpus_start: int
    needles: tuple[Needle, ...]
    text: str | None = None
    """What is sent instead of the ids: the text that encodes to them, or the chat message that
    the server's template makes them of."""
    history: tuple[str, ...] = ()
    """Of a chat: what was said before that message, by user and assistant in turn."""
    added_tokens: int = 0
    """What the server puts around the ids by itself."""

    @property
    def tokens(self) -> int:
        """As the server should count them."""
        return len(self.ids) + self.added_tokens

    @property
    def messages(self) -> list[dict[str, str]]:
        """Of a chat."""
        return as_messages(self.text or "", self.history)

    @property
    def ids_sha256(self) -> str:
        """Hash of the ids as 32-bit little-endian integers."""
        import numpy as np

        return hashlib.sha256(np.ascontiguousarray(self.ids, dtype="<u4").data).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prompt) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[object, ...]:
        return self.ids_sha256, self.corpus_start, self.needles, self.text, self.history


def as_messages(content: str, history: Sequence[str] = ()) -> list[dict[str, str]]:
    """Of a chat whose last message is the user's, and in which user and assistant took turns."""
    said = zip(cycle(("user", "assistant")), (*history, content), strict=False)
    return [{"role": role, "content": text} for role, text in said]
