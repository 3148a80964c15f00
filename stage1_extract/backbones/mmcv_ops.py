"""Lets mmdet and mmdet3d import where mmcv has no compiled ops (`mmcv-lite`).

Both import `mmcv.ops` wherever they are used, and mmcv's compiled extension has no wheel for
current torch. The frozen backbones call none of its ops, so where the extension is missing, a
stand-in module takes its place, whose functions say which op was called and what to install. A
compiled mmcv is left alone.
"""

import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import NoReturn

EXTENSION = "mmcv._ext"


class MissingOpError(RuntimeError):
    """A compiled mmcv op was called, and this installation has none."""


class MissingOps(ModuleType):
    """Answers for every op of mmcv's extension with a function that refuses to run."""

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        """Return a function that raises, under the name of any op."""
        if name.startswith("__"):  # Python's own questions about the module
            raise AttributeError(name)

        def refuse(*_: object, **__: object) -> NoReturn:
            raise MissingOpError(
                f"mmcv's compiled op {name} was called, but mmcv-lite has no compiled ops. "
                "frozen-cmt itself calls none; code that does needs a full mmcv 2.1 built for this "
                "torch: "
                "MMCV_WITH_OPS=1 pip install --no-build-isolation mmcv==2.1.0"
            )

        return refuse


def allow_missing_ops() -> None:
    """Register the stand-in unless mmcv's extension is there; call it before importing mmdet."""
    if EXTENSION in sys.modules or importlib.util.find_spec("mmcv") is None:
        return
    if importlib.util.find_spec(EXTENSION) is None:
        stand_in = MissingOps(EXTENSION)
        # mmengine looks at the spec to see whether the extension is installed.
        stand_in.__spec__ = ModuleSpec(EXTENSION, loader=None)
        sys.modules[EXTENSION] = stand_in


def has_compiled_ops() -> bool:
    """Return whether this installation's mmcv can run its ops."""
    allow_missing_ops()
    if EXTENSION in sys.modules:
        return not isinstance(sys.modules[EXTENSION], MissingOps)
    return importlib.util.find_spec("mmcv") is not None
