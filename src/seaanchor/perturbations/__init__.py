"""Perturbations: on which hard inputs."""
