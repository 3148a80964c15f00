"""Sensor files of a sample to the input of the backbones: images, sweeps, voxels, augmented variants.

May import nuscenes/.
"""
