"""geomstats' test cases mark their methods; the marks have to be known before they are imported."""


def pytest_configure(config):
    for name in ("random", "shape", "vec", "validation", "type", "mathprop"):
        config.addinivalue_line("markers", f"{name}: a mark of geomstats' own test cases")
