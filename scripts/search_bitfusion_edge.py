"""A policy for the digits network on BitFusion in the size of Eyeriss: multipliers that are built of 2-bit bricks.

Arithmetic gets faster at 4 and at 2 bits only, memory at every bit, so that 3 bits make sense where a layer waits for
memory and seldom elsewhere.
Any flag of `haq search` can be added.
"""

import sys

from haq.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["search", "--hardware", "bitfusion-edge", *sys.argv[1:]]))
