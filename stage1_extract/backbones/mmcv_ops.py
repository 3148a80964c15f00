"""Lets mmdet and mmdet3d import where mmcv has no compiled ops (`mmcv-lite`).

Both packages import `mmcv.ops`, and mmcv's compiled extension has no wheel for current torch. The
frozen backbones call none of its ops. Where the extension is missing, a stand-in takes its place
whose functions name the op that was called and say what to install. A compiled mmcv is left alone.
"""

import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import NoReturn

EXTENSION = "mmcv._ext"


class MissingOpError(RuntimeError):
    """A compiled mmcv op was called, and this installation has none: a bug of the calling code."""


class MissingOps(ModuleType):
    """Has a function for every op of mmcv's extension; each of them raises `MissingOpError`."""

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        """Return the function for the op called `name`."""
        if name.startswith("__"):  # Python's own questions about the module
            raise AttributeError(name)

        def refuse(*_: object, **__: object) -> NoReturn:
            raise MissingOpError(
                f"mmcv's compiled op {name} was called, but mmcv-lite has no compiled ops. "
                "frozen-cmt itself calls none. Code that does needs mmcv 2.1.0 built against this "
                "torch (a C++ compiler, 10 to 20 minutes): pip uninstall mmcv-lite; "
                "pip install 'setuptools<81' wheel ninja psutil; "
                "MMCV_WITH_OPS=1 pip install --no-build-isolation mmcv==2.1.0"
            )

        return refuse


def allow_missing_ops() -> None:
    """Register the stand-in if mmcv's extension is missing; call this before importing mmdet."""
    package = None if EXTENSION in sys.modules else importlib.util.find_spec("mmcv")
    if package is None:
        return
    # Unlike `importlib.util.find_spec`, this does not import mmcv.
    if PathFinder.find_spec(EXTENSION, package.submodule_search_locations) is None:
        stand_in = MissingOps(EXTENSION)
        stand_in.__spec__ = ModuleSpec(EXTENSION, loader=None)  # mmengine looks for it
        sys.modules[EXTENSION] = stand_in


def has_compiled_ops() -> bool:
    """Return whether the installed mmcv has its compiled extension."""
    allow_missing_ops()
    if EXTENSION in sys.modules:
        return not isinstance(sys.modules[EXTENSION], MissingOps)
    return importlib.util.find_spec("mmcv") is not None
