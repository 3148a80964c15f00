"""Is it right: fault campaigns, and comparisons with other libraries on real frames."""
