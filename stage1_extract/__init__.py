"""Stage 1: run the frozen backbones over nuScenes and fill a feature store."""
