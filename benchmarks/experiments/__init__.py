"""What training does: recipes side by side, convergence, what AQR learns."""
