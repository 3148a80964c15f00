"""How fast the store is, against its own codec and against what else a user would pick."""
