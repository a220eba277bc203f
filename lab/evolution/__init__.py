"""Genomes of sleeves, how they breed, and what keeps them different."""
