"""Statistics that tell skill from luck, the gates, the leak lab, the null battery."""
