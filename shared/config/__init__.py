"""What a detector is made of, and its vocabulary: frozen dataclasses and presets.

Imports `shared.errors` alone.
"""
