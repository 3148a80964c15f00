"""The trainable part of CMT, with the official state-dict keys.

May import aqr/, attention/ and geometry/, and of `shared` config/, data/, checkpoint/ and `errors`.
"""
