"""Many runs as one: grids over any setting, and the experiments behind the published results."""
