"""How fast and how large: each measurement prints a table and writes JSON."""
