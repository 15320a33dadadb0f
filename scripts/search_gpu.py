"""A policy for the digits network on an NVIDIA T4: integers of 8 or 4 bits, and both operands in the same type.

Weights of 4 bits gain nothing beside activations of 8. Five bits cost as much as eight, so that policies fall on 4 and
8. The roofline has no launch times, which rule so small a network in truth: read the choice, not the milliseconds.
Any flag of `haq search` can be added.
"""

import sys

from haq.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["search", "--hardware", "gpu-t4", *sys.argv[1:]]))
