"""Ways to train, compared: from a store, with live backbones, and with trained backbones."""
