"""Which pictures there are: sources, delivery, records, ties, faces."""
