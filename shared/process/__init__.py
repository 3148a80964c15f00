"""How a command behaves as a process: exit status, signals, files that are written whole.

Imports `shared.errors` alone.
"""
