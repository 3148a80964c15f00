"""Extraction on many machines with Ray: a driver hands shards to workers.

Ray places workers, repeats loading and moves data; what a worker does with a shard is what every
extraction does. Ray is imported only where `--ray` is used. Start with `ray_driver`. May import
extraction/ and what that may import.
"""
