"""What a step costs, counted and predicted."""
