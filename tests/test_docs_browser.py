"""Pages of the documentation in a browser, without a network: formulas, figures, links.

Where selenium, Chromium and what builds the pages are installed.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

webdriver = pytest.importorskip("selenium.webdriver")
WebDriverWait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait
pytest.importorskip("latex2mathml")
pytest.importorskip("sphinx_gallery")
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if not (BROWSER and DRIVER):
    pytest.skip("Chromium and its driver are not installed", allow_module_level=True)

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ("mathematics", "index", "tutorial_machine_learning")
# Formulas with a size, pictures that were loaded, sources that were left, links, and anchors.
LOOK = """
const boxes = [...document.querySelectorAll("math")].map(m => m.getBoundingClientRect());
return {
  formulas: boxes.length,
  empty: boxes.filter(b => b.width < 2 || b.height < 2).length,
  wide: document.documentElement.scrollWidth - window.innerWidth,
  pictures: [...document.images].map(i => i.naturalWidth),
  raw: [...document.querySelectorAll("article p, article td")]
    .map(p => [...p.childNodes].filter(c => c.nodeType == 3).map(c => c.data).join(" "))
    .filter(text => /\\\\[a-zA-Z]{2,}|\\$/.test(text)),
  scripts: [...document.scripts].map(s => s.src).filter(s => s.startsWith("http")),
  links: [...document.querySelectorAll("article a[href]")].map(a => a.href),
}
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build all pages but the gallery, which would run for minutes."""
    out = tmp_path_factory.mktemp("html")
    command = [sys.executable, "-m", "sphinx", "-q", "-D", "plot_gallery=0", "-d", out / "trees"]
    subprocess.run([*command, DOCS, out / "html"], check=True, timeout=300)
    return out / "html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-background-networking",
        f"user-data-dir={tmp_path_factory.mktemp('profile')}",
        "window-size=1300,1000",
    ):
        options.add_argument(f"--{flag}")
    service = webdriver.chrome.service.Service(DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.mark.parametrize("page", PAGES)
def test_page(built, browser, page):
    browser.get((built / f"{page}.html").as_uri())
    loaded = "return [...document.images].every(i => (i.loading = 'eager', i.complete))"
    WebDriverWait(browser, 20).until(lambda driver: driver.execute_script(loaded))
    seen = browser.execute_script(LOOK)
    assert seen["empty"] == 0
    assert page != "mathematics" or seen["formulas"] > 50
    assert all(width > 0 for width in seen["pictures"])
    assert seen["raw"] == []
    assert seen["scripts"] == []
    assert seen["wide"] <= 0
    links = [link.split("#") for link in seen["links"] if link.startswith("file:")]
    assert links
    for path, *anchor in links:
        target = Path(path.removeprefix("file://"))
        assert target.exists(), path
        for name in filter(None, anchor):
            assert f'id="{name}"' in target.read_text(encoding="utf-8"), f"{path}#{name}"
