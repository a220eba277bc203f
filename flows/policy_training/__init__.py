"""Training of the allocation policy with Ray RLlib; nothing that reads it needs Ray."""
