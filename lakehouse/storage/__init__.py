"""How the store works inside: commits, files, keys, newest rows. Use `lakehouse.store`."""
