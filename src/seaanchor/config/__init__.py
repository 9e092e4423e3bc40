"""Settings: the schema, reading and writing, what goes together, and the parts they describe."""
