"""One bound pass: against auto_LiRPA, against dense maps, and how it grows."""
