"""Tests of signing and verification."""
