"""Where tokens and queries lie in space.

May import no other folder.
"""
