"""The published win-probability model, asked over HTTP."""
