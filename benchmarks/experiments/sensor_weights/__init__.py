"""Whether AQR learns which sensor to trust where."""
