"""Work over many objects: the sweep. Reached through the manager's methods."""
