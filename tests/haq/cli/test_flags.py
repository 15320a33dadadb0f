"""Flags: special values, and flags generated from settings."""

from typing import Annotated

import pytest
import typer
from pydantic import BaseModel, Field

from haq.cli.flags import QuietFlag, _read_first_last, _read_input, _read_pins, with_config, with_settings
from haq.config import SearchConfig
from haq.errors import UserError

ENDLESS = "9" * 5000


def test_special_values_are_read() -> None:
    assert _read_pins(["a=4", "b=c=8"]) == {"a": 4, "b=c": 8}
    assert (_read_first_last("free"), _read_first_last("8")) == (None, 8)
    assert _read_input("3x224X224") == (3, 224, 224)


@pytest.mark.parametrize("bits", ["0", "9", "", "4.5", "-1", "²", ENDLESS, "0" * 5000 + "8"])
def test_other_widths_are_one_short_line(bits: str) -> None:
    with pytest.raises(UserError, match=r"^--pin 'a=.{0,110}: write NAME=BITS with 1 to 8 bits"):
        _read_pins([f"a={bits}"])
    with pytest.raises(UserError, match=r"^--first-last-bits '.{0,110}: write a width from 1 to 8, or free"):
        _read_first_last(bits)


@pytest.mark.parametrize("shape", ["8", "1x8x", "1x8x0", "1x8x8x8", f"1x8x{ENDLESS}", f"1x8x{'0' * 5000}8"])
def test_other_shapes_are_one_short_line(shape: str) -> None:
    with pytest.raises(UserError, match=r"^--input '.{0,110} is not a shape; write channels x height x width"):
        _read_input(shape)


class Rates(BaseModel):
    """Settings of a command of its own."""

    lr: Annotated[float, Field(gt=0)] | None = Field(None, description="Learning rate.")
    teacher: bool = Field(default=True, description="Use a teacher.")


def test_commands_receive_configuration_and_settings_made_of_the_given_flags(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @with_config("model", "pin", "agent")
    @with_settings("rates", Rates, Rates, heading="Rates")
    def command(config: SearchConfig, rates: Rates, *, quiet: QuietFlag = False) -> None:
        print(config.model_fields_set, config.pin, rates, quiet)

    app = typer.Typer(rich_markup_mode=None)
    app.command()(command)
    app(["--pin", "a=4", "--no-teacher", "--lr", "0.5"], standalone_mode=False)
    assert capsys.readouterr().out == "{'pin'} {'a': 4} lr=0.5 teacher=False False\n"
