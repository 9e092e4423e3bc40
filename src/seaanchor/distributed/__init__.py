"""Several processes: how they start, what they agree on, how a lost one is noticed, and sharded weights."""
