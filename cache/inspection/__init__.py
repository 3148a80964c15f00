"""What a store is, how it differs from another, how large one will be: for people.

Promises to change nothing, except to keep the result of a parity check beside the ledger
(`parity_record`), and to work on unfinished stores. May import verification/,
coordination/, format/, storage/ and `shared`.
"""
