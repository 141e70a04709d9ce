"""Formulas as MathML, which browsers draw themselves: a page needs neither script nor network."""

import re
import unicodedata
from html import escape

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

logger = logging.getLogger(__name__)
# An environment that stands on its own has the same rows as the one that stands within formulas.
WITHIN = {"align": "aligned", "gather": "gathered", "multline": "gathered", "equation": ""}
ENVIRONMENT = re.compile(r"\\(begin|end)\{(align|gather|multline|equation)\*?\}")
# Browsers know no other alphabet by its attribute, but by its characters.
VARIANT = re.compile(r'<mi mathvariant="(bold|double-struck|fraktur|script)">([A-Za-z])</mi>')


def letter(match):
    """Return a letter of another alphabet as a character of its own."""
    style, plain = match[1].upper(), match[2]
    name = f"{style} {'CAPITAL' if plain.isupper() else 'SMALL'} {plain.upper()}"
    older = name.replace("FRAKTUR", "BLACK-LETTER")  # those that Unicode had before the rest
    for candidate in (f"MATHEMATICAL {name}", older):
        try:
            return f"<mi>{unicodedata.lookup(candidate)}</mi>"
        except KeyError:
            continue
    return match[0]


def inner(match):
    """Return the environment within formulas for one that stands on its own."""
    name = WITHIN[match[2]]
    return rf"\{match[1]}{{{name}}}" if name else ""


def mathml(node, display):
    """Convert a formula; one that cannot be converted is a warning and stays text."""
    latex = ENVIRONMENT.sub(inner, node.astext()).strip()
    if display == "block" and r"\\" in latex and r"\begin" not in latex:
        latex = rf"\begin{{aligned}}{latex}\end{{aligned}}"
    try:
        found = convert(latex, display=display)
    except Exception as error:
        logger.warning("formula not converted (%r): %s", error, latex, location=node)
        return f"<code>{escape(latex)}</code>"
    # What the converter does not know it sets as the name of the command.
    if unknown := re.findall(r">\s*(\\[A-Za-z]+)", found):
        logger.warning("unknown commands %s in the formula %s", unknown, latex, location=node)
    return VARIANT.sub(letter, found)


def visit_math(self, node):
    """Write a formula within a line."""
    self.body.append(f'<span class="math">{mathml(node, "inline")}</span>')
    raise nodes.SkipNode


def visit_math_block(self, node):
    """Write a formula on lines of its own, with its number."""
    self.body.append(self.starttag(node, "div", CLASS="math-block"))
    if node["number"]:
        number = get_node_equation_number(self, node)
        self.body.append(f'<span class="eqno">({number})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append(mathml(node, "block") + "</div>\n")
    raise nodes.SkipNode


def setup(app):
    """Become the renderer of formulas on web pages."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
