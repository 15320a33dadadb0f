"""`haq doctor`: whether the installation is sound, and what of it is missing."""

import typer

from haq.cli.flags import JsonFlag
from haq.cli.help import GroupedCommand
from haq.cli.installation import installation_checks
from haq.cli.output import print_json, print_table, print_text
from haq.errors import UserError

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(cls=GroupedCommand)
def doctor(json: JsonFlag = False) -> None:
    """Check the installation.

    Lists versions, optional parts and tools, and what of the machine can change results. Exits with 2 if a required
    part is missing or does not fit.
    """
    checks = installation_checks()
    if json:
        print_json([check._asdict() for check in checks])
    else:
        for part in dict.fromkeys(check.part for check in checks):
            rows = [(each.name, each.state, each.text) for each in checks if each.part == part]
            print_table("", (part, "state", "found"), rows, text_columns=3, wraps=True)
            print_text("")
    problems = [f"{each.name}: {each.text}" for each in checks if each.state == "problem"]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UserError(f"{problems[0]}{more}")
