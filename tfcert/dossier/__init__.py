"""Dossiers: what a run found, on what it rests and how to check it, for a reader who was not there."""
