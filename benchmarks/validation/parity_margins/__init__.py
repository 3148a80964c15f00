"""How near honest stores come to what `check-parity` allows, with the noise of a GPU simulated."""
