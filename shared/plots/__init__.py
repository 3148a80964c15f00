"""How AQR's sensor weights look in every plot.

May import nothing of this project, and matplotlib only through the axes it is handed.
"""
