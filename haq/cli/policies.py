"""Policy that a command starts from: the argument RUN|POLICY, or uniform bits."""

from pathlib import Path
from typing import Annotated

import typer

from haq.errors import UserError
from haq.experiment.learning_request import PolicyLike
from haq.experiment.policy_source import policy_path

PolicyArgument = Annotated[
    Path | None,
    typer.Argument(
        help="Folder of a run, whose model and data are used, or a policy file; uniform bits if not given.",
        metavar="RUN|POLICY",
    ),
]
FloatFlag = Annotated[bool, typer.Option("--float", help="Leave everything in float, as a control.")]


def policy_or_bits(
    path: Path | None, bits: tuple[int | None, int | None], *, default: tuple[int, int], is_float: bool = False
) -> PolicyLike:
    """Return the policy that the user chose.

    Args:
        path: Policy file or folder of a run.
        bits: Bits of weights and activations; None for a flag that was not given.
        default: Bits of weights and activations for flags that were not given.
        is_float: Leave everything in float.

    Returns:
        The path, or the bits of weights and activations; None stands for float.

    Raises:
        UserError: Several of `path`, `bits` and `is_float` are given.
    """
    ways = {"a policy file": path is not None, "--w-bits, --a-bits": bits != (None, None), "--float": is_float}
    chosen = [name for name, is_given in ways.items() if is_given]
    if len(chosen) > 1:
        raise UserError(f"{' and '.join(chosen)} contradict each other; give one of them")
    if path is not None:
        return path
    w_bits, a_bits = (wide if given is None else given for given, wide in zip(bits, default, strict=True))
    return (None, None) if is_float else (w_bits, a_bits)


def policy_name(policy: PolicyLike) -> str:
    """Return a short name of a policy for the folder of a run that starts from it.

    Args:
        policy: Policy file, folder of a run, or uniform bits.

    Returns:
        The name of the folder that holds the policy file, or the bits.

    Raises:
        UserError: The folder holds no policy.

    Examples:
        >>> policy_name((4, 8)), policy_name((None, None))
        ('w4a8', 'float')
    """
    if isinstance(policy, tuple):
        return "float" if policy == (None, None) else f"w{policy[0]}a{policy[1]}"
    assert isinstance(policy, str | Path)
    return policy_path(Path(policy)).resolve().parent.name
