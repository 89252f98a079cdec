"""Runs told to other programs and other readers, a file for each format; ``tfcert.catalog.REPORTS`` lists them."""
