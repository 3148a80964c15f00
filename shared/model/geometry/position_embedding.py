"""From places to D numbers: the only layers that see coordinates."""

from torch import Tensor, nn

from shared.process.autocast import without_float16


class PositionEmbedding(nn.Sequential):
    """Two layers, in float32 where autocast would compute in float16.

    A coordinate in float16 is off by up to 5 cm at 100 m, and rays that leave the point range give
    large numbers. The official code keeps these layers in float32, too.

    Args:
        source: numbers of a place.
        hidden: width between the layers.
        target: D.
    """

    def __init__(self, source: int, hidden: int, target: int) -> None:
        super().__init__(
            nn.Linear(source, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, target)
        )

    def forward(self, places: Tensor) -> Tensor:
        """Return (..., D) from (..., source)."""
        with without_float16(places.device):
            embedded: Tensor = super().forward(places)  # type: ignore[no-untyped-call]
        return embedded
