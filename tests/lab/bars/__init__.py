"""Tests of `lab.bars`."""
