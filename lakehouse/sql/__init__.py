"""How reading works inside: pinning, the statement gate, the engine. Use `lakehouse.query`."""
