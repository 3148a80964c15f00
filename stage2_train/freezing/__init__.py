"""What a recipe freezes, and the proof that it does not change, to the byte.

May import recipes/.
"""
