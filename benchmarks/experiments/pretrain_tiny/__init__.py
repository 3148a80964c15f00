"""Training of the whole detector `tiny`, backbones too, on synthetic scenes."""
