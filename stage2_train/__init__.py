"""Stage 2: train and evaluate everything after the backbones, from a feature store."""
