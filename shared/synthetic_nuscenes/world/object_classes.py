"""What stands in the scenes: the ten detection classes, how they look and how they move.

Colours and reflectivities differ enough for each sensor by itself to tell the classes apart.
Sizes are typical of nuScenes, entered by hand to 5 cm.
"""

from dataclasses import dataclass

Colour = tuple[int, int, int]
VEHICLE = ("vehicle.moving", ("vehicle.parked", "vehicle.stopped"))
CYCLE = ("cycle.with_rider", ("cycle.without_rider",))
PERSON = ("pedestrian.moving", ("pedestrian.standing",))


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectClass:
    """A detection class.

    Args:
        name: nuScenes detection name.
        category: nuScenes category its instances get.
        size_m: mean (width, length, height) of the annotated box.
        count: instances per scene.
        nearest_m: smallest distance from the ego car, centre to centre.
        farthest_m: largest distance; well inside the range in which the class is evaluated.
        colour_rgb: paint; faces are shaded by scaling it, which preserves the channel ratios.
        reflectivity: mean LiDAR intensity, 0 to 255.
        moving_share: share of the instances that move.
        speeds_mps: slowest and fastest of those that move.
        attributes: attribute of an instance that moves, and those to choose from for the others;
            None for classes without attributes.
    """

    name: str
    category: str
    size_m: tuple[float, float, float]
    count: int
    nearest_m: float
    farthest_m: float
    colour_rgb: Colour
    reflectivity: float
    moving_share: float = 0.0
    speeds_mps: tuple[float, float] = (0.0, 0.0)
    attributes: tuple[str, tuple[str, ...]] | None = None


# Largest first: large objects are placed while there is space.
OBJECT_CLASSES = (
    ObjectClass(
        name="trailer",
        category="vehicle.trailer",
        size_m=(2.9, 11.0, 3.85),
        count=2,
        nearest_m=10.0,
        farthest_m=34.0,
        colour_rgb=(140, 60, 185),
        reflectivity=120.0,
        moving_share=0.25,
        speeds_mps=(2.0, 5.0),
        attributes=VEHICLE,
    ),
    ObjectClass(
        name="bus",
        category="vehicle.bus.rigid",
        size_m=(2.95, 11.0, 3.45),
        count=2,
        nearest_m=10.0,
        farthest_m=34.0,
        colour_rgb=(220, 195, 40),
        reflectivity=95.0,
        moving_share=0.4,
        speeds_mps=(2.0, 6.0),
        attributes=VEHICLE,
    ),
    ObjectClass(
        name="truck",
        category="vehicle.truck",
        size_m=(2.5, 6.9, 2.85),
        count=2,
        nearest_m=8.0,
        farthest_m=34.0,
        colour_rgb=(45, 150, 60),
        reflectivity=70.0,
        moving_share=0.4,
        speeds_mps=(2.0, 7.0),
        attributes=VEHICLE,
    ),
    ObjectClass(
        name="construction_vehicle",
        category="vehicle.construction",
        size_m=(2.8, 6.4, 3.2),
        count=2,
        nearest_m=8.0,
        farthest_m=32.0,
        colour_rgb=(190, 105, 25),
        reflectivity=145.0,
        moving_share=0.25,
        speeds_mps=(1.0, 3.0),
        attributes=VEHICLE,
    ),
    ObjectClass(
        name="car",
        category="vehicle.car",
        size_m=(1.95, 4.6, 1.7),
        count=7,
        nearest_m=6.0,
        farthest_m=34.0,
        colour_rgb=(45, 80, 205),
        reflectivity=30.0,
        moving_share=0.5,
        speeds_mps=(3.0, 9.0),
        attributes=VEHICLE,
    ),
    ObjectClass(
        name="barrier",
        category="movable_object.barrier",
        size_m=(2.5, 0.5, 1.0),
        count=4,
        nearest_m=5.0,
        farthest_m=18.0,
        colour_rgb=(205, 30, 85),
        reflectivity=170.0,
    ),
    ObjectClass(
        name="motorcycle",
        category="vehicle.motorcycle",
        size_m=(0.8, 2.1, 1.5),
        count=3,
        nearest_m=5.0,
        farthest_m=22.0,
        colour_rgb=(35, 165, 190),
        reflectivity=50.0,
        moving_share=0.5,
        speeds_mps=(2.0, 7.0),
        attributes=CYCLE,
    ),
    ObjectClass(
        name="bicycle",
        category="vehicle.bicycle",
        size_m=(0.6, 1.7, 1.3),
        count=3,
        nearest_m=5.0,
        farthest_m=20.0,
        colour_rgb=(130, 200, 40),
        reflectivity=195.0,
        moving_share=0.5,
        speeds_mps=(1.5, 5.0),
        attributes=CYCLE,
    ),
    ObjectClass(
        name="pedestrian",
        category="human.pedestrian.adult",
        size_m=(0.65, 0.75, 1.75),
        count=5,
        nearest_m=4.5,
        farthest_m=22.0,
        colour_rgb=(225, 110, 155),
        reflectivity=220.0,
        moving_share=0.6,
        speeds_mps=(0.7, 1.6),
        attributes=PERSON,
    ),
    ObjectClass(
        name="traffic_cone",
        category="movable_object.trafficcone",
        size_m=(0.4, 0.4, 1.05),
        count=4,
        nearest_m=4.5,
        farthest_m=16.0,
        colour_rgb=(240, 70, 15),
        reflectivity=245.0,
    ),
)

WALL_COLOUR_RGB: Colour = (150, 140, 132)
POLE_COLOUR_RGB: Colour = (95, 98, 100)
WALL_REFLECTIVITY = 12.0
POLE_REFLECTIVITY = 20.0
GROUND_REFLECTIVITY = 6.0
EGO_REFLECTIVITY = 3.0
