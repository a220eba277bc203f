"""The resident forecast worker: one process beside the accelerator, models loaded once."""
