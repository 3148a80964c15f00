"""What a surface looks like: class paint, shading by orientation, windows, wheels, stripes, sky.

Markings scale the paint or replace a small area of it, so that most pixels of a body keep the
channel ratios of its class. Lamps (white in front, red behind) show which way it faces.
"""

import numpy as np
from numpy.typing import NDArray

from shared.synthetic_nuscenes.world.solids import Body

Float = NDArray[np.float32]

AMBIENT = 0.45  # brightness of a face that looks away from the sun
SUN = np.array([0.45, 0.3, 0.84])  # unit direction to the sun, global
HAZE_RGB = np.array([196.0, 205.0, 214.0], dtype=np.float32)
ZENITH_RGB = np.array([110.0, 150.0, 205.0], dtype=np.float32)
ASPHALT_RGB = np.array([98.0, 98.0, 100.0], dtype=np.float32)
LINE_RGB = np.array([205.0, 205.0, 200.0], dtype=np.float32)
GLASS_RGB = np.array([28.0, 32.0, 38.0], dtype=np.float32)
TYRE_RGB = np.array([22.0, 22.0, 22.0], dtype=np.float32)
LAMP_RGB = np.array([250.0, 248.0, 225.0], dtype=np.float32)
TAIL_RGB = np.array([215.0, 15.0, 15.0], dtype=np.float32)
WHITE_RGB = np.array([225.0, 225.0, 225.0], dtype=np.float32)

WINDOWED = ("car", "bus", "truck", "construction_vehicle")
WHEELED = (*WINDOWED, "trailer", "motorcycle", "bicycle")
HAZE_DISTANCE_M = 140.0
TILE_M = 0.6
LINE_SPACING_M = 3.5


def body_colours(body: Body, place: Float, axis: NDArray[np.int8]) -> Float:
    """Paint points on the faces of a body.

    Args:
        body: whose faces.
        place: (3, N) local coordinates over the half size, -1 to 1; |place[axis]| is 1.
        axis: (N,) which local axis each face is normal to.

    Returns:
        (N, 3) float32 RGB, 0 to 255.
    """
    forward, left, up = place
    colours: Float = np.tile(np.array(body.colour_rgb, dtype=np.float32), (len(axis), 1))
    side = axis == 1
    if body.kind in WINDOWED:
        edge = np.where(side, np.abs(forward), np.abs(left))
        colours[(axis != 2) & (up > 0.35) & (up < 0.8) & (edge < 0.85)] = GLASS_RGB
    if body.kind in WHEELED:
        colours[side & (up < -0.55) & (np.abs(np.abs(forward) - 0.62) < 0.16)] = TYRE_RGB
        lamp = (axis == 0) & (np.abs(left) > 0.55) & (up > -0.5) & (up < -0.15)
        colours[lamp & (forward > 0)] = LAMP_RGB
        colours[lamp & (forward < 0)] = TAIL_RGB
    if body.kind == "pedestrian":
        colours[(axis == 0) & (forward > 0) & (up > 0.62) & (up < 0.9)] = (235, 200, 170)
        colours[(axis != 2) & (up < -0.25) & (np.abs(up + 0.6) < 0.3)] *= np.float32(0.6)
    if body.kind == "traffic_cone":
        colours[(axis != 2) & (up > 0.1) & (up < 0.4)] = WHITE_RGB
    if body.kind == "barrier":
        colours[side & (np.sin(forward * 9.0 + up * 2.0) > 0.6)] = WHITE_RGB
    if body.kind == "wall":
        courses = (np.floor(up * body.size_m[2] * 1.2) % 2) * 0.1
        colours *= (1.0 - courses).astype(np.float32)[:, None]
    faces = axis.astype(np.intp)
    positive = (np.take_along_axis(place, faces[None], axis=0)[0] > 0).astype(np.intp)
    colours *= _brightness(body.yaw_rad)[faces, positive][:, None]
    return colours


def _brightness(yaw_rad: float) -> Float:
    """Return the (3, 2) brightness of the faces: local axis, then its negative or positive side."""
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    normals = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    facing = np.stack([-normals @ SUN, normals @ SUN], axis=-1)
    # Half-Lambert, so that the two sides in the shade differ, too.
    brightness: Float = (AMBIENT + (1.0 - AMBIENT) * (0.5 + 0.5 * facing)).astype(np.float32)
    return brightness


def background(directions: Float, origin_m: NDArray[np.float64]) -> tuple[Float, Float]:
    """Paint ground and sky.

    Args:
        directions: (3, H, W) global ray directions, any length.
        origin_m: (3,) global position of the camera.

    Returns:
        colours: (H, W, 3) float32 RGB, 0 to 255.
        distance: (H, W) float32 in lengths of the direction; infinite in the sky.
    """
    down = directions[2]
    length = np.sqrt((directions**2).sum(axis=0))
    height = np.clip(down / length * 2.5, 0.0, 1.0)[..., None]
    colours = HAZE_RGB + (ZENITH_RGB - HAZE_RGB) * height
    distance = np.full(down.shape, np.inf, dtype=np.float32)
    ground = down < -1e-4
    distance[ground] = np.float32(-origin_m[2]) / down[ground]
    reach_m = distance[ground] * length[ground]
    x_m = origin_m[0] + (distance[ground] * directions[0][ground]).astype(np.float64)
    y_m = origin_m[1] + (distance[ground] * directions[1][ground]).astype(np.float64)
    painted = _ground_colours(x_m, y_m)
    fade = (1.0 - np.exp(-reach_m / HAZE_DISTANCE_M)).astype(np.float32)[:, None]
    colours[ground] = painted + (HAZE_RGB - painted) * fade
    return colours.astype(np.float32), distance


def _ground_colours(x_m: NDArray[np.float64], y_m: NDArray[np.float64]) -> Float:
    """Asphalt in tiles of slightly different grey, with lines as on a parking lot."""
    column = np.floor(x_m / TILE_M).astype(np.int64)
    row = np.floor(y_m / TILE_M).astype(np.int64)
    mixed = (column * 73_856_093) ^ (row * 19_349_663)  # two large primes: a common grid hash
    grain = ((mixed ^ (mixed >> 7)) % 256).astype(np.float32) / 255.0
    colours: Float = ASPHALT_RGB * (0.9 + 0.2 * grain)[:, None]
    line = (np.mod(y_m, LINE_SPACING_M) < 0.12) & (np.mod(x_m, 6 * LINE_SPACING_M) < 10.0)
    colours[line] = LINE_RGB
    return colours
