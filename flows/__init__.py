"""Orchestration: thin flows (read, compute in lab, write), the CLI and their wiring."""
