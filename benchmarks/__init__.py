"""How fast granite-storage is, beside plain SQLAlchemy, loops written by hand, and its peers; see ``__main__``."""
