"""On what the benchmarks run: processor, memory, system, versions."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

PACKAGES = ("dln-manifolds", "numpy", "scipy", "geomstats", "pymanopt", "joblib")
PEERS = ("pyriemann", "POT", "torch", "jax", "blackjax", "distributed", "ray")


def versions() -> dict[str, str]:
    """Versions of what is measured and of the peers that are installed."""
    found = {"Python": platform.python_version()}
    for name in (*PACKAGES, *PEERS):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            if name in PACKAGES:
                found[name] = "unknown"
    return found


def processor() -> str:
    """What the system says of its processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def memory() -> str:
    """Memory of the machine, where the system tells."""
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (AttributeError, ValueError, OSError):
        return "unknown"


def described() -> dict[str, str]:
    """All of it, with the linear algebra and its threads."""
    built = np.show_config(mode="dicts") or {}
    blas = built.get("Build Dependencies", {}).get("blas", {})
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return {
        "processor": f"{processor()}, {os.cpu_count()} cores",
        "memory": memory(),
        "system": f"{platform.system()} {platform.release()}",
        "load at the start": load,
        "linear algebra": f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip(),
        "threads": os.environ.get("OMP_NUM_THREADS", "not limited"),
    }
