"""What the reference of a container image says: engine, version, and how firmly it is pinned."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SDK = re.compile(r"sdk(\d+\.\d+(?:\.\d+)?)")
_RELEASE = re.compile(r"v?(\d+\.\d+\.\d+(?:\.?post\d+)?)")


@dataclass(frozen=True)
class Image:
    name: str
    tag: str
    digest: str

    @property
    def engine(self) -> str | None:
        last = self.name.rsplit("/", maxsplit=1)[-1]
        if "sglang" in self.name:
            return "sglang"
        return "vllm" if "vllm" in last else None

    @property
    def is_neuron(self) -> bool:
        return "neuron" in self.name or "neuron" in self.tag

    @property
    def version(self) -> str | None:
        """Of the engine inside, where the tag begins with it."""
        found = _RELEASE.match(self.tag)
        return found[1] if found and self.engine else None

    @property
    def sdk(self) -> str | None:
        found = _SDK.search(self.tag)
        return found[1] if found else None

    @property
    def starts_engine(self) -> bool:
        """Whether the words after the image are options of the server already."""
        return self.name.endswith(("vllm/vllm-openai", "vllm/vllm-openai-rocm"))


def parse_image(reference: str) -> Image:
    rest, _, digest = reference.partition("@")
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        name, tag = rest, ""
    return Image(name, tag, digest)
