"""Several processes: who they are, what they agree on, and weights in parts."""
