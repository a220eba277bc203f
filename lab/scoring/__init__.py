"""Proper scores of settled forecasts."""
