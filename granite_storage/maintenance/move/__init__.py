"""The move: files from one policy or backend to another, while the application runs."""
