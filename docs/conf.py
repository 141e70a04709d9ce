"""Sphinx configuration. ``sphinx-build -W docs docs/_build`` needs no network."""

import inspect
import os
import re
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")
sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "dln_manifolds"
author = copyright = "The dln_manifolds developers"
release = version = installed_version("dln-manifolds")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "mathml",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "gallery/**/*.ipynb", "gallery/**/*.py", "gallery/**/*.md5"]

html_math_renderer = "mathml"
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_title = "dln_manifolds"

autodoc_member_order = "groupwise"
autodoc_typehints = "none"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
# Single backticks in docstrings name classes, functions and methods.
default_role = "py:obj"

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"^(?!plot_)",  # of names: other scripts are commands, some run for minutes
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "remove_config_comments": True,
    "abort_on_example_error": True,
    "write_computation_times": False,
}


def ours_only(app, what, name, obj, skip, options):
    """Leave out what the hosts document themselves."""
    function = inspect.unwrap(getattr(obj, "fget", None) or getattr(obj, "__func__", obj))
    module = getattr(function, "__module__", None) or ""
    if what == "class" and callable(function) and not module.startswith("dln_manifolds"):
        return True
    return None


def escape_shapes(app, what, name, obj, options, lines):
    """Keep the star of ``shape=[..., *point_shape]`` from opening an emphasis, n from being ours.

    Names in the types of arguments become links where they can, and spaces have a property ``n``.
    """
    for k, line in enumerate(lines):
        if re.match(r":(var)?type ", line):
            lines[k] = re.sub(r"shape=\[.*?\]", r"``\g<0>``", line)
        elif "shape=[" in line:
            lines[k] = line.replace("*point_shape", r"\*point_shape")


def benchmarks_for_users(app, docname, source):
    """Leave out what measures the work on the package: versions compared, and its own goals."""
    if docname != "benchmarks":
        return
    text = (Path(app.confdir).parent / "benchmarks" / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"^## Two versions.*?(?=^## )", "", text, flags=re.DOTALL | re.MULTILINE)
    lines, dropped = [], None
    for line in text.splitlines():
        if not line.startswith("|"):
            dropped = None
        else:
            cells = re.split(r"(?<!\\)\|", line)
            if dropped is None:
                dropped = {k for k, cell in enumerate(cells) if cell.strip() in ("bar", "goal")}
            line = "|".join(cell for k, cell in enumerate(cells) if k not in dropped)
        lines.append(line)
    source[0] = "\n".join(lines)


def setup(app):
    """Connect what the docstrings need."""
    app.connect("source-read", benchmarks_for_users)
    app.connect("autodoc-skip-member", ours_only)
    app.connect("autodoc-process-docstring", escape_shapes)
