"""How a command runs: exit status, signals, device, which samples it takes, whole files.

May import only `shared.errors`.
"""
