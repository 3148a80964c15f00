"""Which samples an evaluation plots: read from the command line, and checked before the work."""

import argparse
from collections.abc import Sequence

from shared.errors import ConfigError

# How many of the samples with the most errors to plot, or which samples.
PlotChoice = int | tuple[str, ...]


def parse_plots(text: str) -> PlotChoice:
    """Read "4" as a number of samples and "token,token" as samples."""
    if text.startswith("-") or not text.replace(",", ""):
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a whole number of at least 0 nor tokens separated by commas"
        )
    return int(text) if text.isdecimal() and len(text) < 9 else tuple(text.split(","))


def require_plottable(plots: PlotChoice, tokens: Sequence[str]) -> None:
    """Check that the samples to plot are among those evaluated.

    Raises:
        ConfigError: if one is not, or matplotlib is missing.
    """
    if plots == 0:
        return
    unknown = [] if isinstance(plots, int) else [token for token in plots if token not in tokens]
    if unknown:
        raise ConfigError(
            f"--plot {unknown[0]}: not among the {len(tokens)} samples evaluated (such as "
            f"{tokens[0]}); give a number of samples, or tokens separated by commas"
        )
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "pictures need matplotlib: pip install 'frozen-cmt[evaluate]', or --plot 0 for none"
        ) from error
