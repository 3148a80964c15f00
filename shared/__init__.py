"""Vocabulary, configuration and model: what every other package may import."""
