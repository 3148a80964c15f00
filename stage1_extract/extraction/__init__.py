"""Filling a store: shards, workers, forecasts, identity and null features.

May import nuscenes/, preprocessing/ and backbones/.
"""
