"""The allocation policy: its environment, rewards, lookup table and promotion rule."""
