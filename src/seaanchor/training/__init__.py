"""One run: setup, loop, step, state, run folder."""
