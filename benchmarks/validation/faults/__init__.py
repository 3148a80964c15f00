"""What a feature store survives: kills, flipped bits, truncated files, full disks, many writers."""
