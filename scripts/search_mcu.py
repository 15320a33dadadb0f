"""A policy for the digits network on a Cortex-M7: less flash, for little more time.

Unpacking makes narrow kernels slower, so bits are saved for memory. The budget asks for 0.6 of the weights' bytes and
allows a tenth more time than 8 bits take: narrow are the layers with many weights and few MACs. Flash and RAM of the
device are constraints besides. Any flag of `haq search` can be added; a --budget replaces both.
"""

import sys

from haq.__main__ import main

BUDGETS = ["--budget", "size=0.6", "--budget", "latency=5.6ms"]

if __name__ == "__main__":
    own = any(word.partition("=")[0] == "--budget" for word in sys.argv[1:])
    flags = [] if own else BUDGETS
    sys.exit(main(["search", "--hardware", "mcu-cortex-m7", "--objective", "size", *flags, *sys.argv[1:]]))
