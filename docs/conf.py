"""Configuration of the site. It builds without network and without data beyond the repository."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import cnnhw
from cnnhw_docs import inventories, notebooks, stamp

project = "cnnhw"
author = "The cnnhw developers"
project_copyright = f"2026, {author}"
version = release = cnnhw.__version__
language = "en"

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "sphinxcontrib.bibtex",
    "sphinx_copybutton",
    "sphinx_design",
    "cnnhw_docs.records",
    "cnnhw_docs.sound",
    "cnnhw_docs.provenance",
    "cnnhw_docs.question_pages",
    "cnnhw_docs.guess",
    "cnnhw_docs.prose",
    "cnnhw_docs.live",
    "cnnhw_docs.cards",
    "cnnhw_docs.answers",
    "cnnhw_docs.explorer",
    "cnnhw_docs.train_here",
    "cnnhw_docs.tested",
    "cnnhw_docs.trained",
    "cnnhw_docs.label_audit",
    "cnnhw_docs.transfer_times",
    "cnnhw_docs.exercises",
    "cnnhw_docs.accessible",
    "cnnhw_docs.house_picture",
    "cnnhw_docs.widgets",
    "cnnhw_docs.drawings",
    "cnnhw_docs.terms",
    "cnnhw_docs.order",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "records", "sg_execution_times.rst", "auto_examples/sg_execution_times.rst"]
nitpicky = True
bibtex_bibfiles = ["references.bib"]

autosummary_generate = True
autodoc_typehints = "none"  # docstrings state types, with shapes and ranges
numpydoc_show_class_members = False
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"
numpydoc_xref_aliases = inventories.aliases()

# links to other sites come from lists kept here, so that no build has to fetch any
intersphinx_mapping = inventories.write(HERE / "inventories", HERE / "_static" / "generated")

# a page is stale when the package, the records or a library changes, not only when its script does
cnnhw_stamp = stamp.current()
stale = stamp.stored() != cnnhw_stamp
if stale:
    shutil.rmtree(HERE / "api" / "generated", ignore_errors=True)  # pages of names that may be gone

sphinx_gallery_conf = {
    "examples_dirs": ["../examples"],
    "gallery_dirs": ["auto_examples"],
    "filename_pattern": r"/plot_",
    "within_subsection_order": "cnnhw_docs.order.ReadingOrder",
    "run_stale_examples": stale,
    "doc_module": ("cnnhw",),
    "reference_url": {"cnnhw": None},
    "backreferences_dir": "auto_examples/backreferences",
    "image_scrapers": ("cnnhw_docs.live.scrape",),
    "reset_modules": ("matplotlib", "cnnhw_docs.live.reset", "cnnhw_docs.notebooks.install"),
    "parallel": True,  # as many processes as `sphinx -j`
    "capture_repr": ("_repr_html_",),
    "remove_config_comments": True,
    "first_notebook_cell": notebooks.FIRST_CELL,
    "min_reported_time": 1e9,
    "show_memory": False,
    "plot_gallery": "True",
}

html_theme = "pydata_sphinx_theme"
html_title = "cnnhw"
html_static_path = ["_static", "../cnnhw/web/cnn.js", "../cnnhw/web/photos.js"]
html_search_scorer = "scorer.js"
html_css_files = ["custom.css", "guess.css"]
# guesses at once, so that no finding is seen before it is covered
html_js_files = [("site.js", {"defer": "defer"}), "guess.js"]
html_favicon = "_static/favicon.svg"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": {"**": ["page-toc", "sg_download_links"], "index": [], "feature_explorer": []},
    # both have the contrast that WCAG asks for
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
# pages that have none beside them need no list of such pages
html_sidebars = {
    name: []
    for name in (
        "index", "bibliography", "changelog", "claims", "deprecations", "developer", "feature_explorer",
        "getting_started", "glossary", "how_it_is_tested", "model_cards", "train_here",
    )
}  # fmt: skip
mathjax_path = "mathjax/tex-svg.js"
