"""Search bits for the digits network on BISMO's cloud overlay, within 0.6 of the 8-bit latency.

It has four times the bandwidth of the edge overlay and a batch of 16: layers that are memory-bound on the edge are
compute-bound here, where weight bits cost time. Accepts every flag of `haq search`.
"""

import sys

from haq.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["search", "--hardware", "bismo-cloud", *sys.argv[1:]]))
