"""The engine, the cost ladder and walk-forward: positions in, returns after costs out."""
