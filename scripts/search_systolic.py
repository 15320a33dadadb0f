"""A policy for the digits network on an int8 systolic array: fewer bits save memory there, but no time.

Every integer width takes the same cycles, so size is what a budget can limit; activations keep their 8 bits.
Any flag of `haq search` can be added.
"""

import sys

from haq.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["search", "--hardware", "systolic-tpu", "--objective", "size", *sys.argv[1:]]))
