"""Search bits for the digits network on an int8 systolic array, within 0.6 of the 8-bit size.

Every integer width takes the same cycles, so the budget limits the size; activations keep 8 bits.
Accepts every flag of `haq search`.
"""

import sys

from haq.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["search", "--hardware", "systolic-tpu", "--objective", "size", *sys.argv[1:]]))
