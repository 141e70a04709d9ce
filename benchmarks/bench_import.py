"""Import time of the package beyond that of its hosts, in processor time.

python benchmarks/bench_import.py
"""

import argparse
import os
import subprocess
import sys
import tempfile

CODE = """
import time
start = time.process_time()
import geomstats.geometry.fiber_bundle, geomstats.geometry.manifold
import geomstats.geometry.quotient_metric, geomstats.geometry.riemannian_metric, pymanopt
hosts = time.process_time()
import dln_manifolds
print(hosts - start, time.process_time() - hosts)
"""


def measure(bytecode: str) -> tuple[float, float]:
    """Return seconds of processor time of the hosts, and of this package after them.

    Compiled code is kept in a folder of its own, also where the environment forbids to write it.
    """
    kept = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": bytecode}
    answer = subprocess.run(
        [sys.executable, "-c", CODE],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | kept,
    )
    hosts, ours = map(float, answer.stdout.split())
    return hosts, ours


def main(repeats: int) -> None:
    """Print the least of several fresh processes: what else the machine does only adds."""
    with tempfile.TemporaryDirectory() as bytecode:
        measure(bytecode)  # compiles
        found = [measure(bytecode) for _ in range(repeats)]
    hosts, ours = (min(times) for times in zip(*found, strict=True))
    print(f"hosts {hosts:.2f} s, dln_manifolds after them {ours:.3f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="two repeats")
    options = parser.parse_args()
    main(2 if options.quick else options.repeats)
