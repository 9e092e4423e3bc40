"""The suites of an evaluation."""
