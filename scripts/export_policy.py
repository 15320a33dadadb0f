"""Write the policy of a finished run to a JSON file: `export_policy.py RUN FILE.json`.

The policy is validated before it is written.
"""

import argparse
import sys
from pathlib import Path

import haq
from haq.errors import UserError


def main(run: str, target: str) -> int:
    """Copy the policy of a run and return the exit code."""
    try:
        haq.load_policy(Path(run) / "policy.json").save(target)
    except UserError as error:
        print(f"export_policy.py: {error}", file=sys.stderr)
        return 2
    print(target)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the folder of a finished run")
    parser.add_argument("target", metavar="file", help="the JSON file to write")
    arguments = parser.parse_args()
    sys.exit(main(arguments.run, arguments.target))
