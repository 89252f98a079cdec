"""VNN-LIB: the questions of the verification competition, read as questions of the language."""
