"""Weights: where they lie, how they are opened, what travels with the project."""
