"""Attacks on any model: balls, PGD, APGD, AutoAttack, Square, the attack on embeddings, and words drawn on images."""
