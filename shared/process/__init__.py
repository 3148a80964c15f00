"""How a command behaves as a process: exit status, signals, locks, whole files, memory, cores.

May import `shared.errors` only.
"""
