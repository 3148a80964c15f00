"""Which shards are complete and who works on the others: ledger, claims, free space.

May import storage/ and format/.
"""
