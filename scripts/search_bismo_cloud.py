"""A policy for the digits network on BISMO's cloud overlay: the same network, other bits than on the edge.

Four times the bandwidth and a batch of 16 move layers from memory-bound to compute-bound, where weight bits cost time.
Any flag of `haq search` can be added.
"""

import sys

from haq.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["search", "--hardware", "bismo-cloud", *sys.argv[1:]]))
