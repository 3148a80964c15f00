"""An opened store, which of its shards are complete, and who works on the others.

Promises that any number of workers, killed at any time, end in one complete store. Start with
`store`, then `ledger` and `claims`. May import format/, storage/ and `shared`.
"""
