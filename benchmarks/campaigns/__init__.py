"""Campaigns: journals of a million records, runs that are killed, and how far workers go."""
