"""From a sample's sensor files to the backbones' input: images, sweeps, voxels and variants.

Loader processes import this folder and nothing above it.

As official CMT does it, bit for bit wherever that is possible. May import nuscenes/ and
conditions/.
"""
