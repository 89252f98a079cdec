"""Solvers in processes of their own. Nothing is imported here: they must not load TensorFlow."""
