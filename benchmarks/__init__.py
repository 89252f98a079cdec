"""Experiments with tfcert, one folder each; ``python -m benchmarks.radius.run`` from the repository runs one."""
