"""Fail unless a wheel holds the package, its metadata, and nothing else.

python .ci/wheel_contents.py dist/*.whl
"""

import sys
import zipfile
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "dln_manifolds"
METADATA = {"METADATA", "WHEEL", "RECORD", "licenses/LICENSE"}


def expected():
    """Return the names of all files that a wheel must hold, below their top folders."""
    sources = {
        f"dln_manifolds/{path.relative_to(PACKAGE).as_posix()}" for path in PACKAGE.rglob("*.py")
    }
    return sources | {"dln_manifolds/py.typed"} | {f"dist-info/{name}" for name in METADATA}


def contents(wheel):
    """Return the names of all files in a wheel, its metadata folder without the version."""
    names = zipfile.ZipFile(wheel).namelist()
    return {"dist-info/" + n.split("/", 1)[1] if ".dist-info/" in n else n for n in names}


def main(wheel):
    """Compare, and say what differs."""
    found, wanted = contents(wheel), expected()
    for name in sorted(wanted - found):
        print("missing:", name)
    for name in sorted(found - wanted):
        print("should not be there:", name)
    return int(found != wanted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
