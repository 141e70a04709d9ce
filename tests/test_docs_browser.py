"""Pages of the documentation in a browser: formulas and figures are drawn, no link is dead."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("furo")
pytest.importorskip("latex2mathml")
pytest.importorskip("myst_parser")
webdriver = pytest.importorskip("selenium.webdriver")

DOCS = Path(__file__).parents[1] / "docs"
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = ["headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run"]
FLAGS += ["disable-background-networking", "disable-component-update", "disable-sync"]
PAGES = {"index.html": 2, "mathematics.html": 100, "reproduce.html": 20}  # formulas, at least
LEFT_OUT = ("api", "gallery")  # these import the package and draw: the full build has them

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and its driver")

LOOK = """
const formulas = [...document.querySelectorAll('math')];
const drawn = formulas.filter(f => f.getBoundingClientRect().width > 0
                                && f.getBoundingClientRect().height > 0);
const images = [...document.querySelectorAll('img')].filter(i => !i.closest('.sidebar-drawer'));
const copy = document.querySelector('article').cloneNode(true);
copy.querySelectorAll('pre, code').forEach(part => part.remove());
return {formulas: formulas.length, drawn: drawn.length, text: copy.textContent,
        broken: images.filter(i => i.naturalWidth == 0).map(i => i.src), images: images.length,
        remote: performance.getEntriesByType('resource').map(r => r.name)
                .filter(name => name.startsWith('http')),
        wide: document.documentElement.scrollWidth > document.documentElement.clientWidth,
        links: [...document.querySelectorAll('article a[href]')].map(a => a.href)};
"""


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    """Build the pages that are text, which takes seconds."""
    folder = tmp_path_factory.mktemp("docs")
    settings = {
        "extensions": "mathml,myst_parser,sphinx.ext.autodoc,sphinx.ext.napoleon",
        "exclude_patterns": "_build,gallery,api",
    }
    options = [part for key, value in settings.items() for part in ("-D", f"{key}={value}")]
    command = [sys.executable, "-m", "sphinx", "-Q", *options, "-d", folder / "trees"]
    subprocess.run([*command, DOCS, folder / "html"], check=True)
    return folder / "html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.set_window_size(1280, 900)
    yield driver
    driver.quit()


@pytest.mark.parametrize("page", PAGES)
def test_page(html, browser, page):
    browser.get((html / page).as_uri())
    seen = browser.execute_script(LOOK)
    assert seen["drawn"] == seen["formulas"] >= PAGES[page]
    assert not [word for word in ("\\frac", "\\sum", "\\mathcal", "$") if word in seen["text"]]
    assert not seen["broken"]
    assert page != "index.html" or seen["images"]
    assert not seen["remote"]
    assert not seen["wide"]
    count = 0
    for link in seen["links"]:
        address, _, anchor = link.partition("#")
        if not address.startswith("file:"):
            continue
        file = Path(address.removeprefix("file://"))
        if anchor.partition("/")[0] in LEFT_OUT:  # how a link to a page left out is written
            continue
        if file.relative_to(html).parts[0].removesuffix(".html") in LEFT_OUT:
            continue
        assert file.exists(), link
        assert not anchor or f'id="{anchor}"' in file.read_text(encoding="utf-8"), link
        count += 1
    assert count
