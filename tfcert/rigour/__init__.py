"""What rounding may take from a bound."""
