"""Statistics: how many files there are, how large, of what types and how old."""
