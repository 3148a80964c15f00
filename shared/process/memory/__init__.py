"""Memory of processes: what several of them share, and what one of them frees.

May import: `shared.errors`.
"""
