"""What deciders decided, captured so that it can be audited."""
