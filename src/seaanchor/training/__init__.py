"""Training: what a run is made of, its steps, its checkpoints, its log and its export."""
