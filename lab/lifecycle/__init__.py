"""The stages of a sleeve, the rules between them, and how far each one is."""
