"""Search bits for the digits network on a Cortex-M7, within 0.84 of the 8-bit instructions and 0.6 of the 8-bit size.

Narrow kernels multiply two weights at once, which saves instructions where the bits of weights and inputs add up to
nine or less; fewer bits save memory alone. First and last layer are searched like the others. Flash and RAM of the
device are constraints in addition. Accepts every flag of `haq search`; a --budget replaces both budgets.
"""

import sys

from haq.__main__ import main

BUDGETS = ["--budget", "latency=0.84", "--budget", "size=0.6"]

if __name__ == "__main__":
    has_budget = any(word.partition("=")[0] == "--budget" for word in sys.argv[1:])
    flags = ["--first-last-bits", "free", *([] if has_budget else BUDGETS), *sys.argv[1:]]
    sys.exit(main(["search", "--hardware", "mcu-cortex-m7-measured", "--objective", "latency", *flags]))
