"""Two related networks: questions about their difference, bounded with and without differences of their neurons."""
