"""Whole runs and measurements: they use the commands as a user would."""
