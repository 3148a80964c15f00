"""Whole jobs as a user runs them: the demo on synthetic data, and the job on real frames."""
