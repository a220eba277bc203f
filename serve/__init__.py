"""The gateway: serves verified artefacts from memory; it writes nothing but its state folder."""
