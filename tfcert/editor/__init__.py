"""Help for those who write specifications: what names mean, what may stand somewhere, a language server."""
