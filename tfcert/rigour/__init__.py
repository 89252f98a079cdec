"""Rounding, and what it may take from a bound."""
