"""Integer networks of deployable networks, computed once for each."""

from weakref import WeakKeyDictionary

from haq.exporters.deployable import Deployable
from haq.exporters.integer.lowering import integer_network
from haq.exporters.integer.network import IntegerNetwork
from haq.policy import PolicyBits

_FOUND: WeakKeyDictionary[Deployable, dict[PolicyBits, IntegerNetwork]] = WeakKeyDictionary()


def lowered(network: Deployable, bits: PolicyBits) -> IntegerNetwork:
    """Return the integer network of a deployable network.

    Args:
        network: Network with its policy.
        bits: (w_bits, a_bits) of every layer.

    Returns:
        The integer network; the same one for equal arguments, whose lowering takes seconds.

    Raises:
        UserError: A layer or an operator has no integer form.
    """
    found = _FOUND.setdefault(network, {})
    if bits not in found:
        found[bits] = integer_network(network, bits)
    return found[bits]
