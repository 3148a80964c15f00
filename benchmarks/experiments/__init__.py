"""What training achieves: recipes compared, convergence, what AQR learns."""
