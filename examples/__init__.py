"""Complete runs of the pipeline as a user starts them: on synthetic data, and on real frames."""
