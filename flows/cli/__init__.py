"""The command line `alphalake`: verbs that parse, call a flow or a query, and say what happened."""
