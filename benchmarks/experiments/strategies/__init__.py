"""Ways to train, side by side: from a store, with the backbones run live, and through them."""
