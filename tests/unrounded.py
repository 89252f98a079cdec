"""Options of tests about a relaxation itself: closed forms, peers' numbers and exact equality leave rounding out."""

from tfcert.options import BoundOptions

IGNORED = BoundOptions(rounding="ignore")
