"""Weights whose answers are words: a random model repeats itself, and cannot be told from a broken
one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from leadline.models.shapes import EMBEDDING, HEAD, Tensor
from leadline.models.weights import draw

_SPACES = ("Ġ", "▁")  # how a leading space is written in a vocabulary


def find_words(vocabulary: Mapping[str, int]) -> list[int]:
    """Ids of the tokens that are a space and letters, in order."""
    return sorted(number for token, number in vocabulary.items() if _is_word(token))


def draw_model(
    tensors: Iterable[Tensor], seed: int, words: Sequence[int]
) -> Iterator[tuple[Tensor, NDArray[np.float32]]]:
    """Every tensor with its numbers. After each word the next of them is the most likely, round and
    round; after anything else, some word.
    """
    for tensor in tensors:
        if tensor.name == HEAD and words:
            yield tensor, _chain(draw(tensor._replace(name=EMBEDDING), seed), words)
        else:
            yield tensor, draw(tensor, seed)


def _chain(embedding: NDArray[np.float32], words: Sequence[int]) -> NDArray[np.float32]:
    """A word's output row is the embedding of the word before it; all other rows are 0."""
    head = np.zeros_like(embedding)
    head[np.array(words)] = embedding[np.roll(np.array(words), 1)]
    return head


def _is_word(token: str) -> bool:
    return token[:1] in _SPACES and token[1:].isascii() and token[1:].isalpha()
