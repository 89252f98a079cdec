"""Text and its syntax tree."""
