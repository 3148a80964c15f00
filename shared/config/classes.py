"""The fixed vocabularies of nuScenes detection: classes and cameras, in CMT's order."""

# Upstream: CMT's order, not mmdet3d's alphabetical one; a checkpoint's logits are in this order.
CLASS_NAMES = (
    "car",
    "truck",
    "construction_vehicle",
    "bus",
    "trailer",
    "barrier",
    "motorcycle",
    "bicycle",
    "pedestrian",
    "traffic_cone",
)

# Upstream: the order in which mmdet3d's converter writes `info["cams"]`.
CAMERAS = (
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_FRONT_LEFT",
    "CAM_BACK",
    "CAM_BACK_LEFT",
    "CAM_BACK_RIGHT",
)

LIDAR = "LIDAR_TOP"
OTHER_CLASS = -1  # label of a box of any other category
