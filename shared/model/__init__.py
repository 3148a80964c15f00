"""The trainable part of CMT, with the official state-dict keys."""
