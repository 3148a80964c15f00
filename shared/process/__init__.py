"""How a command behaves as a process: exit status, signals, locks, whole files, shared memory.

May import `shared.errors` only.
"""
