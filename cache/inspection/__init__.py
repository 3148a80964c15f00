"""What a store is, how it differs from another, how large one will be.

May import storage/, format/, coordination/ and verification/.
"""
