"""Configuration of the documentation, which is built from the root of the repository: `make docs`."""

from importlib import metadata

project = "haq"
copyright = "the authors of haq, Apache-2.0"  # noqa: A001  a name that Sphinx reads
release = metadata.version("haq")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
root_doc = "docs/index"
# The pages link to results and to ARCHITECTURE.md as on a host of repositories, so the source is the whole repository.
include_patterns = ["docs/*.md", "results/**.md", "*.md"]
exclude_patterns = ["README.md"]
myst_heading_anchors = 4
default_role = "code"

autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = "haq"
html_static_path: list[str] = []
