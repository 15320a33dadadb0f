"""Search bits for the digits network on BISMO's edge overlay, within 0.6 of the 8-bit latency.

Depthwise layers are memory-bound there: their weight bits cost no time, their activation bits do.
Accepts every flag of `haq search`.
"""

import sys

from haq.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["search", "--hardware", "bismo-edge", *sys.argv[1:]]))
