"""The attributes that nuScenes gives to objects of each class, in motion and at rest."""

MOVING_ATTRIBUTE = {
    **dict.fromkeys(("car", "construction_vehicle", "bus", "truck", "trailer"), "vehicle.moving"),
    "bicycle": "cycle.with_rider",
    "motorcycle": "cycle.with_rider",
    "pedestrian": "pedestrian.moving",
}
RESTING_ATTRIBUTE = {
    **dict.fromkeys(("car", "construction_vehicle", "truck", "trailer"), "vehicle.parked"),
    "bus": "vehicle.stopped",
    "bicycle": "cycle.without_rider",
    "motorcycle": "cycle.without_rider",
    # Upstream: a resting pedestrian is called standing, a moving one gets the class default.
    "pedestrian": "pedestrian.standing",
}
