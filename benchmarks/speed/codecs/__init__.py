"""Sizes and speeds of the codecs on features of real frames."""
