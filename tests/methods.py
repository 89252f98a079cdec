"""The methods that tests of any network go through; those for some networks alone have tests of their own."""

from tfcert.catalog import METHODS, propagated

GENERAL = tuple(name for name in propagated() if not METHODS[name].activations)
"""The methods that propagate bounds of every network."""
