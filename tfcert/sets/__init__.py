"""Perturbation sets."""
