"""Modules that SGLang imports at start and never needs for text on a CPU.

Loaded by a ``.pth`` file at the start of each Python process of the test environment, before
SGLang's own files, which stay as they were published. Image and sound libraries become modules
whose names are empty classes; GPU kernels become modules whose functions refuse to be called.
"""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import FrameType, ModuleType
from typing import Any

IMAGES_AND_SOUND = ("torchvision", "torchaudio", "torchcodec", "decord")
KERNELS = ("sgl_kernel", "vllm._custom_ops")
# SGLang has a replacement of its own for this one, and takes it when the import fails.
_ABSENT = ("sgl_kernel.scalar_type",)
# Transformers asks whether an image library is there, and would then use it.
_ASKS_WHETHER_INSTALLED = "/transformers/utils/"


class StandInFinder(MetaPathFinder, Loader):
    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> ModuleSpec | None:
        if fullname in _ABSENT or not _is_ours(fullname):
            return None
        if _ASKS_WHETHER_INSTALLED in _importing_file(sys._getframe(1)):
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        is_kernel = spec.name.startswith(KERNELS)
        return _Kernels(spec.name) if is_kernel else _Names(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        module.__version__ = "0.0"  # type: ignore[attr-defined]


class _Anything:
    """An object that can be called, decorated with and asked for attributes."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return args[0] if args and callable(args[0]) else self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything()


class _Names(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (_Anything,), {})


class _Kernels(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*args: object, **kwargs: object) -> None:
            raise NotImplementedError(f"{self.__name__}.{name} needs a GPU")

        return refuse


def _is_ours(fullname: str) -> bool:
    return any(
        fullname == name or fullname.startswith(f"{name}.") for name in IMAGES_AND_SOUND + KERNELS
    )


def _importing_file(frame: FrameType | None) -> str:
    """The first file on the stack that is not Python's own import machinery."""
    while frame and "importlib" in frame.f_code.co_filename:
        frame = frame.f_back
    return frame.f_code.co_filename if frame else ""


sys.meta_path.append(StandInFinder())
