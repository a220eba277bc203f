"""Timeframes, market calendars, resampling and gaps."""
