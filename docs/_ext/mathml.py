"""Formulas as MathML, which browsers draw by themselves: the pages need no network and no script.

A formula that cannot be converted is a warning, an error in a build with ``-W``.
"""

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.locale import _
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

_LOGGER = logging.getLogger(__name__)


def converted(self: HTML5Translator, node: nodes.math | nodes.math_block, display: str) -> str:
    """Return a formula as MathML, or its source if that fails."""
    source = node.astext()
    try:
        return convert(source, display=display)
    except Exception as error:  # of any kind: the converter names none
        _LOGGER.warning("No MathML of %s: %s", source, error, location=node)
        return self.encode(source)


def visit_inline(self: HTML5Translator, node: nodes.math) -> None:
    """Write a formula in a line."""
    self.body.append(converted(self, node, "inline"))
    raise nodes.SkipNode


def visit_block(self: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula on lines of its own, with its number if it has one."""
    self.body.append(self.starttag(node, "div", CLASS="math-block"))
    self.body.append(converted(self, node, "block"))
    if node["number"]:
        number = get_node_equation_number(self, node)
        self.body.append(f'<span class="eqno">({number})')
        self.add_permalink_ref(node, _("Link to this equation"))
        self.body.append("</span>")
    self.body.append("</div>")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
