"""What a store looks like on disk: arrays, rows, codecs, shards, metadata and identity.

Promises that the same features give the same values, and that bytes which are not what was written
are an error. Start with `schema`, then `layout` and `identity`. May import storage/ and `shared`.
"""
