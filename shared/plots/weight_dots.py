"""How AQR's sensor weights look in plots: stage 1's over photos and stage 2's without them.

It plots on axes passed in, so that importing it does not need matplotlib.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

COLOUR_MAP = "RdBu"  # red distrusts, blue trusts, white is neutral


def weight_dots(
    axes: Any, places: NDArray[np.floating[Any]], weights: NDArray[np.float32], size: float
) -> Any:
    """Plot a dot for each query, coloured by its weight; return the dots, for a colour bar.

    Args:
        axes: matplotlib axes.
        places: (Q, 2) in the units of the axes.
        weights: (Q,) -1 to 1.
        size: area of a dot in square points.
    """
    return axes.scatter(
        places[:, 0],
        places[:, 1],
        c=weights,
        cmap=COLOUR_MAP,
        vmin=-1,
        vmax=1,
        s=size,
        edgecolor="0.35",
        linewidth=0.4,
    )
