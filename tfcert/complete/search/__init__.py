"""Decisions about one sample: branch and bound, integer programs, least distances."""
