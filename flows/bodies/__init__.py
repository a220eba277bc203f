"""Bodies of the flows: read, call the lab, write. No Prefect here."""
