"""From a detector, or any submission, to detections and official metrics.

Promises nuscenes-devkit's own numbers, and that they say which part of which split they cover.
May import data/.
"""
