"""Does AQR gain from training under conditions? May import the packages and benchmarks/."""
