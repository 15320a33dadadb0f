"""Search bits for the digits network on a Cortex-M7, within 0.6 of the 8-bit size and 5.6 ms.

Unpacking makes narrow kernels slower, so that fewer bits save flash and cost time; the latency budget allows a tenth
more than 8 bits take. Flash and RAM of the device are constraints in addition. Accepts every flag of `haq search`; a
--budget replaces both budgets.
"""

import sys

from haq.__main__ import main

BUDGETS = ["--budget", "size=0.6", "--budget", "latency=5.6ms"]

if __name__ == "__main__":
    has_budget = any(word.partition("=")[0] == "--budget" for word in sys.argv[1:])
    flags = [] if has_budget else BUDGETS
    sys.exit(main(["search", "--hardware", "mcu-cortex-m7", "--objective", "size", *flags, *sys.argv[1:]]))
