"""Fills a store: shards, workers, forecast, identity and null features.

Finished shards are kept whatever happens; a resumed run computes the same batches as an undisturbed
one. May import nuscenes/, preprocessing/ and backbones/.
"""
