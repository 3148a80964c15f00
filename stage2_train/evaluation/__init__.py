"""Detections and official metrics of a detector or of a result file.

May import data/ and run/.
"""
