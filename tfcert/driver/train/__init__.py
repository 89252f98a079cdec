"""Certified training from a specification: ``tfcert train``."""
