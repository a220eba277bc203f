"""Tests of `lab.forecasters`."""
