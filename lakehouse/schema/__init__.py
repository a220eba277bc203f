"""Table declarations only: columns, units, ranges and keys. No IO."""
