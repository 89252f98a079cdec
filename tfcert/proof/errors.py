"""What is said where a file cannot be checked."""

from __future__ import annotations


class ProofError(ValueError):
    """A certificate or a model cannot be read, or asks for what is not checked: the message is the reason."""
