"""Proofs after retraining."""
