"""Search bits for the digits network on BitFusion of the size of Stripes, within 0.6 of the 8-bit energy.

Latency stops falling at about 0.6 of that at 8 bits, where filling and draining the array dominates, so the objective
is energy. Energies rest on synthesis results, CACTI and memory constants, not on a measured chip.
Accepts every flag of `haq search`.
"""

import sys

from haq.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["search", "--hardware", "bitfusion-cloud", "--objective", "energy", *sys.argv[1:]]))
