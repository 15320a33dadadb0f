"""Search bits for the digits network on BitFusion of the size of Eyeriss, within 0.6 of the 8-bit latency.

Its multipliers are composed of 2-bit units: arithmetic gets faster at 4 and at 2 bits only, memory traffic falls with
every bit. So 3 bits pay where a layer is memory-bound. Accepts every flag of `haq search`.
"""

import sys

from haq.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["search", "--hardware", "bitfusion-edge", *sys.argv[1:]]))
