"""How fast the store is, compared with its own codec and with the alternatives a user has."""
