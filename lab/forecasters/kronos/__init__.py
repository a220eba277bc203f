"""Kronos: a transformer over tokens of price bars, compatible with published weights."""
