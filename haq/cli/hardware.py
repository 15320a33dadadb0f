"""`haq hardware`: the devices, where their numbers come from, and whether a file describes one."""

from pathlib import Path
from typing import Annotated, Any

import typer

from haq.cli.flags import JsonFlag
from haq.cli.output import print_json, print_table
from hardware_sim.accelerator import Accelerator
from hardware_sim.catalog import device_names, load_accelerator

app = typer.Typer(help="Devices, with sources; without a command, the list.", invoke_without_command=True)

NOTES = ("sources", "validation")


@app.callback()
def hardware(context: typer.Context, json: JsonFlag = False) -> None:
    """The list, unless a command was given."""
    if context.invoked_subcommand is None:
        list_devices(json=json)


@app.command("list")
def list_devices(json: JsonFlag = False) -> None:
    """The shipped devices."""
    devices = [load_accelerator(name) for name in device_names()]
    if json:
        print_json(
            [{"name": device.name, "description": device.description, "batch": device.batch} for device in devices]
        )
        return
    rows = [(device.name, str(device.batch), device.description) for device in devices]
    print_table(f"{len(devices)} devices", ("device", "batch", "description"), rows, text_columns=3)


@app.command()
def show(name: Annotated[str, typer.Argument(help="A device, or a file.")], json: JsonFlag = False) -> None:
    """A device's parameters with their sources, and what its model was held against."""
    device = load_accelerator(name)
    if json:
        print_json(device.model_dump(mode="json"))
        return
    rows = [(key, str(value), device.sources.get(key, "")) for key, value in _parameters(device).items()]
    print_table(f"{device.name}: {device.description}", ("key", "value", "source"), rows, text_columns=3)
    for line in device.validation:
        print(f"validated: {line}")


@app.command()
def validate(file: Annotated[Path, typer.Argument(help="A .toml device file or a .csv table.")]) -> None:
    """Say what is missing, unknown or of the wrong unit in a device file; exit with 2 if anything is."""
    device = load_accelerator(file)
    print(f"{file}: {device.name} is a valid device")


def _parameters(device: Accelerator) -> dict[str, Any]:
    return {key: value for key, value in device.model_dump(mode="json").items() if key not in NOTES}
