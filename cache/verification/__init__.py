"""Reading every byte again and comparing it with what was written.

May import storage/, format/ and coordination/.
"""
