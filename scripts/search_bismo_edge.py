"""A policy for the digits network on BISMO's edge overlay: what a small, bandwidth-starved array makes of the bits.

Depthwise layers are memory-bound there, so their weight bits are free while their activation bits are dear.
Any flag of `haq search` can be added.
"""

import sys

from haq.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["search", "--hardware", "bismo-edge", *sys.argv[1:]]))
