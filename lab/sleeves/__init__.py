"""The sleeve catalogue, one sleeve a file, and the locked phase37 baseline."""
