"""The policy of a finished run as a JSON file of its own: `export_policy.py RUN FILE.json`.

The file is checked on the way: what is written is what `haq` reads back.
"""

import sys
from pathlib import Path

import haq
from haq.errors import UserError


def main(run: str, target: str) -> int:
    """Copy the policy of a run; returns the exit code."""
    try:
        haq.load_policy(Path(run) / "policy.json").save(target)
    except UserError as error:
        print(f"export_policy.py: {error}", file=sys.stderr)
        return 2
    print(target)
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: export_policy.py RUN FILE.json")
    sys.exit(main(sys.argv[1], sys.argv[2]))
