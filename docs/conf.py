"""Sphinx configuration: MyST pages, the reference from the docstrings, nothing from the network."""

from __future__ import annotations

from importlib.metadata import version as version_of

project = "granite-storage"
author = project_copyright = "granite-storage contributors"
release = version_of("granite-storage")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"granite-storage {release}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False  # those of SQLAlchemy refer to its own documentation
autodoc_default_options = {"members": True, "show-inheritance": True}
python_use_unqualified_type_names = True
