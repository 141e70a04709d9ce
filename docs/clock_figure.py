"""Draw the first figure of the README, that of `examples/plot_clock.py`.

python docs/clock_figure.py docs/images/clock.png
"""

import runpy
import sys
from pathlib import Path

import matplotlib
from matplotlib import pyplot

PAGE = Path(__file__).parents[1] / "examples" / "plot_clock.py"

if __name__ == "__main__":
    matplotlib.use("Agg")
    pyplot.show = lambda: pyplot.savefig(sys.argv[1], dpi=100)
    runpy.run_path(str(PAGE))
