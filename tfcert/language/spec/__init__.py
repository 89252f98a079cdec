"""Checked specifications as plain data."""
