"""``python -m granite_storage`` is ``granite-storage``."""

from granite_storage.cli import main

if __name__ == "__main__":
    main()
