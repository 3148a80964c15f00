"""Finished and unfinished runs side by side, and which of their differences are real.

Imports run, sweep and evaluation; opens no store.
"""
