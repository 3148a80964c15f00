"""The sample without sensors: what the frozen part computes where LiDAR or cameras are absent.

Upstream: ModalMask3D drops a sensor by multiplying its raw values by 0, before augmentation,
normalisation and voxels. So absent images are black, and an absent cloud is points at the origin,
one voxel of zeros: that, not an empty cloud, is what a pretrained detector has learnt to take for
an absent LiDAR. In an augmented sample the voxel is where the cloud was shifted to, and the images
have GridMask's holes; a store keeps only the answer to the recorded sample, and docs/fidelity.md
says how much that differs.
"""

import numpy as np

from cache.coordination.null_store import NULL_SAMPLES, null_identity, null_path, open_null
from cache.coordination.store import Store
from cache.create import StoreSpec, open_or_create
from shared.config.classes import CAMERAS
from shared.config.preset import Preset
from shared.data.features import NO_ANNOTATIONS, NO_CAMERAS, Frame
from stage1_extract.backbones.frozen import FrozenBackbones
from stage1_extract.backbones.live import LiveFeatures
from stage1_extract.preprocessing.absent_input import black_images, zero_voxels
from stage1_extract.preprocessing.raw_frames import RawFrame


def write_null_features(store: Store, frozen: FrozenBackbones, *, shard_bytes: int) -> None:
    """Write the null features of a store beside its rows, unless they exist already.

    Raises:
        IdentityError: if the existing null features were made from something else.
    """
    open_null(store)  # if damaged, its error says what to do
    metadata = store.metadata
    spec = StoreSpec(
        preset=frozen.preset,
        identity=null_identity(metadata.identity),
        samples=NULL_SAMPLES,
        max_boxes=1,
        provenance=metadata.provenance,
        codec=metadata.codec,
        shard_bytes=shard_bytes,
    )
    writer = open_or_create(null_path(store.path), spec)
    for shard in writer.pending():
        writer.write_shard(shard, LiveFeatures([], frozen).run([null_raw_frame(frozen.preset)]))


def null_raw_frame(preset: Preset) -> RawFrame:
    """Return the raw sample in which all sensors are absent."""
    has_camera = preset.camera is not None
    return RawFrame(
        frame=Frame(
            token=NULL_SAMPLES.tokens[0],
            scene=NULL_SAMPLES.scenes[0],
            timestamp_us=NULL_SAMPLES.timestamps_us[0],
            variant=0,
            img_from_lidar=np.tile(np.eye(4), (len(CAMERAS), 1, 1)) if has_camera else NO_CAMERAS,
            ego_from_lidar=np.eye(4),
            global_from_ego=np.eye(4),
            annotations=NO_ANNOTATIONS,
        ),
        images=None if preset.camera is None else black_images(preset.camera),
        voxels=None if preset.lidar is None else zero_voxels(preset),
    )
