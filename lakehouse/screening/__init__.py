"""How intake works inside: checks, corrections, refusals. Use `lakehouse.intake`."""
