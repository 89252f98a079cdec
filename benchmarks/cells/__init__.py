"""Networks behind an interval abstraction: the experiments of AbsCert."""
