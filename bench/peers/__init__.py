"""What public code does, written anew for the bench: the same passes in the same modes, without its data loading and
its evaluation.

Each peer has a test that counts its passes and compares its perturbations and gradients with ours.
"""
