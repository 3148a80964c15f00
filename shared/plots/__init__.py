"""How AQR's sensor weights look in every picture."""
