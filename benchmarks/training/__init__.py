"""Certified training by interval bounds: speed, accuracy, and constrained IBP."""
