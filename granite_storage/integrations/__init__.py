"""Bridges to other libraries, by the import paths that granite-storage 0.1.0 documented."""
