"""Questions about a model and an npz file, without a specification: the commands ``radius`` and ``attack``."""
