"""Forecasts of bars that a client brings: a queue that the resident worker polls."""
