"""How small and how fast the codecs are on features of real frames."""
