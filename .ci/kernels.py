"""Print the OpenBLAS kernel that numpy uses on this machine, and a second one that it can run.

python .ci/kernels.py prints for instance "SkylakeX Haswell". Where linear algebra is no OpenBLAS
that can be told its kernel, it prints one name only. threadpoolctl comes with scikit-learn, which
geomstats needs.
"""

import os
import subprocess
import sys

# The first of these that the machine can run and does not run anyway. Haswell is what most
# machines of users have; SkylakeX needs AVX512, the last two run on everything with x86-64.
SECOND = ("Haswell", "SkylakeX", "Sandybridge", "Nehalem", "ARMV8", "NEOVERSEN1")
# Uses the kernel, which an impossible one does not survive.
PROBE = """
import numpy as np
from threadpoolctl import threadpool_info
x = np.random.default_rng(0).normal(size=(64, 64))
u, s, vt = np.linalg.svd(x)
assert np.allclose(u * s @ vt, x)
assert np.allclose(np.linalg.solve(x, x @ x), x)
found = [blas for blas in threadpool_info() if blas["internal_api"] == "openblas"]
print(found[0]["architecture"] if found else "")
"""


def architecture(kernel=None):
    """Return the name of the kernel that a new process uses if asked for one, "" if unknown."""
    environment = os.environ.copy()
    environment.pop("OPENBLAS_CORETYPE", None)
    if kernel is not None:
        environment["OPENBLAS_CORETYPE"] = kernel
    done = subprocess.run(
        [sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, check=False
    )
    if kernel is None and done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout.strip()


def main():
    """Print one or two names."""
    first = architecture()
    others = (name for name in SECOND if name != first and architecture(name) == name)
    print(first or "unknown", next(others, "") if first else "")


if __name__ == "__main__":
    main()
