"""The least energy for the digits network on BitFusion in the size of Stripes.

Its port is so wide that time stops falling at about 0.6 of 8 bits, where the array waits for filling and draining:
there is more to be saved in energy. The figures rest on synthesis, CACTI and memory constants, not on a measured chip.
Any flag of `haq search` can be added.
"""

import sys

from haq.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["search", "--hardware", "bitfusion-cloud", "--objective", "energy", *sys.argv[1:]]))
