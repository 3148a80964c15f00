"""The versions of the packages that decide what a store holds, for its provenance."""

import contextlib
from importlib.metadata import PackageNotFoundError, version

# mmcv has one of two names.
SOFTWARE = ("torch", "numpy", "mmdet", "mmdet3d", "mmcv", "mmcv-lite", "spconv-cu118", "frozen-cmt")


def installed_versions() -> dict[str, str]:
    """Return the version of each of these packages that is installed."""
    versions = {}
    for name in SOFTWARE:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions
