"""Loading of networks and data that settings name."""

import pytest

import haq
from haq.errors import UserError
from haq.experiment import preparation


def test_data_that_do_not_fit_are_refused_before_a_network_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "load_configured", lambda _: pytest.fail("the network is loaded"))
    with pytest.raises(
        UserError, match="digits_cnn takes items of another form, such as 1x16x16, than those of shapes"
    ):
        haq.search("digits_cnn", "shapes")
