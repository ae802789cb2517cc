"""How Sphinx makes the site of these documents: `make site`, warnings are errors."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from reference_pages import write_pages  # beside this file

project = "MRFF"
copyright = "the MRFF contributors, Apache-2.0"
version = release = version_of("mrff")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["tutorial.py", "run_tutorial.py"]
default_role = "py:obj"  # `name` in a docstring: a link where there is such a page, else code
highlight_language = "none"  # blocks that do not say their language

# Documents are Markdown as GitHub reads it; links to headings are checked.
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # a level of headings left out
nb_execution_mode = "off"  # the notebook holds what it printed: docs/tutorial.py

# Docstrings are in Google's style.
napoleon_numpy_docstring = False
napoleon_use_rtype = False
autodoc_default_options = {"members": True, "ignore-module-all": True}  # where it is defined
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
python_maximum_signature_line_length = 72

html_theme = "furo"
html_title = f"MRFF {version}"
html_copy_source = False
html_use_index = html_domain_indices = False  # the search finds names; a list of all is too wide
html_show_sphinx = False

write_pages(Path(__file__).parent / "reference" / "generated")
