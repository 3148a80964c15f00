"""How AQR's weights look in pictures, from stage 1 over photos as from stage 2 without them.

Source: ours. Draws on axes that it is given, so nothing here needs matplotlib to be installed.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

COLOUR_MAP = "RdBu"  # red distrusts, blue trusts, white is neutral


def weight_dots(
    axes: Any, places: NDArray[np.floating[Any]], weights: NDArray[np.float32], size: float
) -> Any:
    """Draw a dot for each query, coloured by its weight; return it, for a colour bar.

    Args:
        axes: of matplotlib.
        places: (Q, 2) in the units of the axes.
        weights: (Q,) -1 to 1.
        size: of a dot, square points.
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
