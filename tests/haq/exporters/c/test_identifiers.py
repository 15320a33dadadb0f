import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haq.exporters.c.identifiers import identifier, plain, symbol_of


@given(st.text())
def test_no_name_brings_in_more_than_letters_digits_and_single_underscores(name: str) -> None:
    assert re.fullmatch(r"([A-Za-z0-9]+(_[A-Za-z0-9]+)*)?", plain(name))
    assert re.fullmatch(r"op0(_[A-Za-z0-9]+)*", identifier("op0", name))


@pytest.mark.parametrize("name", ["", "*/", "int", "0", "für\n#define x", '"); system("', "??/"])
def test_identifiers_begin_with_their_prefix(name: str) -> None:
    assert identifier("op7", name).startswith("op7")


@pytest.mark.parametrize(
    ("stem", "symbol"),
    [
        ("resnet8", "resnet8"),
        ("a-b.c d", "a_b_c_d"),
        ("8bit", "net_8bit"),
        ("", "net"),
        ("haq", "net_haq"),
        ("Op1", "net_Op1"),
    ],
)
def test_functions_are_named_after_the_file(stem: str, symbol: str) -> None:
    assert symbol_of(stem) == symbol


@given(st.text())
def test_any_file_name_gives_an_identifier(stem: str) -> None:
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*", symbol_of(stem))
