"""Search bits for the digits network on an NVIDIA T4, within 0.6 of the 8-bit latency.

Both operands are computed in the same integer type, of 8 or 4 bits: 4-bit weights gain nothing with 8-bit activations,
and 5 bits cost as much as 8. The roofline has no launch times, which dominate for so small a network on a real GPU; its
milliseconds are lower bounds. Accepts every flag of `haq search`.
"""

import sys

from haq.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["search", "--hardware", "gpu-t4", *sys.argv[1:]]))
