"""What papers and other tools mean by "verified": rounding left out of account. Comparisons with them ask for it."""

from tfcert.options import BoundOptions

UNROUNDED = BoundOptions(rounding="ignore")
