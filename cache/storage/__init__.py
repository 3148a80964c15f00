"""Where the bytes of a store are: in a directory, or on S3-compatible object storage.

Promises one set of verbs for both (`protocol.StorePath`), so that nothing above asks which it is;
`location` opens a place by its name. May import `shared`, but no other folder of the cache.
"""
