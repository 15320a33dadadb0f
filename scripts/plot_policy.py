"""Plot the bits of every layer of a policy: `plot_policy.py RUN_OR_POLICY [--out FILE.svg]`."""

import sys

from haq.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["plot", "--kind", "policy", *sys.argv[1:]]))
