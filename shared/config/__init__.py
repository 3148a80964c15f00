"""What a detector is made of, and its vocabulary: frozen dataclasses and presets.

May import `shared.errors` only.
"""
