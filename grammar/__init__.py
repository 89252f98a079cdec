"""The property language's grammar, installed as the package ``tfcert.grammar`` so that it travels as data."""
