"""Fills a store: loading, computing and writing side by side; forecast, identity, null features.

Finished shards are kept whatever happens; a resumed run computes the same batches as an undisturbed
one. May import nuscenes/, preprocessing/ and backbones/.
"""
