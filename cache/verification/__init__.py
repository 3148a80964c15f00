"""Reading every byte again and comparing it with what was written.

Promises that whatever changed on disk is reported with the shard to rebuild. `verify_store` is the
whole run, `check_rows` a shard of it, `progress` what an interrupted run has checked;
`check_sources` does the same with the sensor files that the rows were made from. May import
coordination/, format/, storage/ and `shared`.
"""
