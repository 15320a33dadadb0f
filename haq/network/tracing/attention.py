"""Scaled dot-product attention in separate steps, in which each product of two activations is a call of its own."""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

QK, PV = "qk", "pv"
"""Names of the products of queries and keys, and of attention weights and values."""


def attention_product(first: Tensor, second: Tensor, operator: str) -> Tensor:
    """Compute `torch.matmul` for attention, visible to function modes.

    Args:
        first: First operand [..., rows, depth].
        second: Second operand [..., depth, columns].
        operator: `qk` or `pv`.

    Returns:
        Product [..., rows, columns].
    """
    if has_torch_function((first, second)):
        answer: Tensor = handle_torch_function(attention_product, (first, second), first, second, operator)
        return answer
    return torch.matmul(first, second)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,  # noqa: FBT001, FBT002  # the signature of torch
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Compute `F.scaled_dot_product_attention` in separate steps; results differ by float rounding.

    Args:
        query: Queries [..., heads, length, depth].
        key: Keys [..., heads, others, depth].
        value: Values [..., heads, others, channels].
        attn_mask: Mask that broadcasts to [..., length, others]: True where a query attends, or an addend.
        dropout_p: Probability with which attention weights are set to 0.
        is_causal: Whether a query attends to no later key.
        scale: Factor of the scores; 1 / sqrt(depth) if None.
        enable_gqa: Whether several heads of queries share one of keys and values.

    Returns:
        Outputs [..., heads, length, channels].
    """
    if enable_gqa:
        key, value = (each.repeat_interleave(query.size(-3) // each.size(-3), -3) for each in (key, value))
    scores = attention_product(query, key.transpose(-2, -1), QK) * _scale(query, scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    weights = scores.softmax(dim=-1) if attn_mask is None else _masked_softmax(scores, attn_mask)
    if dropout_p > 0:
        weights = F.dropout(weights, dropout_p)
    return attention_product(weights, value, PV)


def can_attend(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Return whether `attend` computes what torch does for some arguments of `F.scaled_dot_product_attention`.

    Args:
        args: Positional arguments.
        kwargs: Keyword arguments.

    Returns:
        False for tensors that are not dense, and where a mask is given for causal attention, which torch refuses.
    """
    mask = args[3] if len(args) > 3 else kwargs.get("attn_mask")
    is_causal = args[5] if len(args) > 5 else kwargs.get("is_causal", False)
    dense = (each for each in (*args[:3], *kwargs.values()) if isinstance(each, Tensor))
    return not (is_causal and mask is not None) and not any(each.is_nested for each in dense)


def _scale(query: Tensor, scale: float | None) -> float:
    return 1 / math.sqrt(query.size(-1)) if scale is None else scale


def _masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Return the softmax of masked scores; zeros in rows without any score, as in torch."""
    scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    weights = scores.softmax(dim=-1)
    return weights.masked_fill((scores == -math.inf).all(dim=-1, keepdim=True), 0.0)
