"""Learning from settled samples: features, training, calibration, bundles."""
