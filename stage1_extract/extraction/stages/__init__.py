"""The stages of an extraction and what they share: loading, computing, writing; widths and rates.

May import nuscenes/, preprocessing/ and backbones/, but nothing of extraction/ itself.
"""
