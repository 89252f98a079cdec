"""The stages of a strategy."""
