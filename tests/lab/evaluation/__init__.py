"""Tests of `lab.evaluation`."""
