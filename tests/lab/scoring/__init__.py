"""Tests of `lab.scoring`."""
