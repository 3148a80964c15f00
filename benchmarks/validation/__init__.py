"""Is it correct: fault campaigns, and comparisons with other libraries on real frames."""
