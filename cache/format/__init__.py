"""What a store looks like on disk: arrays, rows, codecs, shards, metadata and identity.

May import storage/. Start with `schema`, then `layout` and `identity`.
"""
