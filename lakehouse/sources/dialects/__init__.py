"""How each kind of bar file is recognised and read; `lakehouse.sources.files` drives."""
