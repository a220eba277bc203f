"""One forecasting contract and the models behind it."""
