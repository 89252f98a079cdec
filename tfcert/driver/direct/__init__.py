"""Questions about a model and an npz file without a specification: ``radius``, ``minimum``, ``estimate`` and so on."""
