"""What a feature store survives: kills, flipped bits, cut files, full disks, many writers."""
