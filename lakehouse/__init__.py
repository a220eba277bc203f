"""The tables and their trust: declarations, the one write path, queries, sources, signing."""
