"""Where the bytes of a store lie: a directory, or S3-compatible object storage.

Imports no other folder of the cache.
"""
