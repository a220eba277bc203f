"""The paper trader: signals, their combination, limits, fills, orders and shadows."""
