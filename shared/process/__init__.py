"""How a command behaves as a process: exit status, signals, files that are never half written.

May import `shared.errors` only.
"""
