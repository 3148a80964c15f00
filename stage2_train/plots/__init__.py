"""Plots of evaluations and of AQR's sensor weights.

The only folder that needs matplotlib, which is imported when there is something to plot. May import
evaluation/.
"""
