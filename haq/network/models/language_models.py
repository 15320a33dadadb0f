"""Language models: recurrent ones of the literature, and a small transformer."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

VOCABULARY, STEPS = 10_000, 35
"""Default size of the vocabulary, that of the Penn Treebank, and the usual number of tokens of a segment."""
INITIAL_RANGE = 0.1
"""Largest absolute value of initial embeddings and decoder weights."""


class RecurrentLanguageModel(nn.Module):
    """Embedding, stacked LSTM or GRU, and linear decoder (Zaremba et al. 2014, arXiv 1409.2329).

    Args:
        kind: Recurrent cell.
        hidden: Number of units of embedding and of each recurrent layer.
        num_classes: Size of the vocabulary.
        layers: Number of recurrent layers.
        dropout: Probability of dropout between layers in training.
        tied: Whether the decoder has the weights of the embedding (Press & Wolf 2017, arXiv 1608.05859).

    Examples:
        >>> model = RecurrentLanguageModel("lstm", 8, num_classes=5)
        >>> logits, (hidden, cell) = model(torch.zeros(2, 3, dtype=torch.int64))
        >>> logits.shape, hidden.shape, cell.shape
        (torch.Size([2, 3, 5]), torch.Size([2, 2, 8]), torch.Size([2, 2, 8]))
    """

    def __init__(
        self,
        kind: Literal["lstm", "gru"],
        hidden: int,
        *,
        num_classes: int = VOCABULARY,
        layers: int = 2,
        dropout: float = 0.5,
        tied: bool = False,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_classes, hidden)
        cell = nn.LSTM if kind == "lstm" else nn.GRU
        self.rnn = cell(hidden, hidden, layers, dropout=dropout if layers > 1 else 0.0, batch_first=True)
        self.decoder = nn.Linear(hidden, num_classes)
        self.dropout = nn.Dropout(dropout)
        nn.init.uniform_(self.embedding.weight, -INITIAL_RANGE, INITIAL_RANGE)
        nn.init.uniform_(self.decoder.weight, -INITIAL_RANGE, INITIAL_RANGE)
        nn.init.zeros_(self.decoder.bias)
        if tied:
            self.decoder.weight = self.embedding.weight

    def forward(
        self, tokens: Tensor, state: Tensor | tuple[Tensor, ...] | None = None
    ) -> tuple[Tensor, Tensor | tuple[Tensor, ...]]:
        """Predict the next token at each position.

        Args:
            tokens: Tokens, int64 [n, t].
            state: State after the tokens before, [n, layers, hidden]; for an LSTM that and the cell state. None at the
                beginning of a text.

        Returns:
            Logits [n, t, vocabulary], and the state after the last token.
        """
        before = None if state is None else _swapped(state)
        outputs, after = self.rnn(self.dropout(self.embedding(tokens)), before)
        return self.decoder(self.dropout(outputs)), _swapped(after)


class CausalAttention(nn.Module):
    """Multi-head self-attention of each position to itself and those before.

    Args:
        width: Number of channels.
        heads: Number of heads.
        dropout: Probability of dropout of attention weights in training.
    """

    def __init__(self, width: int, heads: int, *, dropout: float) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.heads, self.dropout = heads, nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Attend.

        Args:
            x: Channels [n, t, width].

        Returns:
            Channels [n, t, width].
        """
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        dropout = self.dropout.p if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
        projected: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return projected


class TransformerBlock(nn.Module):
    """Attention and a two-layer perceptron, each with a layer norm before and a residual connection.

    Args:
        width: Number of channels.
        heads: Number of heads.
        dropout: Probability of dropout in training.
    """

    def __init__(self, width: int, heads: int, *, dropout: float) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), CausalAttention(width, heads, dropout=dropout)
        self.norm2, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Run the block.

        Args:
            x: Channels [n, t, width].

        Returns:
            Channels [n, t, width].
        """
        x = x + self.dropout(self.attention(self.norm1(x)))
        mixed: Tensor = x + self.dropout(self.down(F.gelu(self.up(self.norm2(x)))))
        return mixed


class TransformerLanguageModel(nn.Module):
    """Decoder-only transformer with learned positions (GPT-2, Radford et al. 2019); it has no state.

    Args:
        num_classes: Size of the vocabulary.
        width: Number of channels.
        blocks: Number of blocks.
        heads: Number of heads.
        context: Largest number of tokens.
        dropout: Probability of dropout in training.
    """

    def __init__(
        self,
        *,
        num_classes: int = VOCABULARY,
        width: int = 128,
        blocks: int = 4,
        heads: int = 4,
        context: int = 512,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.embedding, self.position = nn.Embedding(num_classes, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads, dropout=dropout) for _ in range(blocks)))
        self.norm, self.decoder = nn.LayerNorm(width), nn.Linear(width, num_classes)
        self.dropout, self.context = nn.Dropout(dropout), context
        for embedding in (self.embedding, self.position):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Predict the next token at each position.

        Args:
            tokens: Tokens, int64 [n, t].

        Returns:
            Logits [n, t, vocabulary].

        Raises:
            ValueError: There are more tokens than the context has.
        """
        if tokens.shape[1] > self.context:
            raise ValueError(f"{tokens.shape[1]} tokens exceed the context of {self.context}; take shorter segments")
        x = self.embedding(tokens)  # first, as the first layer is left at 8 bits by default
        x = self.dropout(x + self.position(torch.arange(tokens.shape[1], device=tokens.device)))
        logits: Tensor = self.decoder(self.norm(self.blocks(x)))
        return logits


def stored_vocabulary_size(weights: Mapping[str, Tensor]) -> int | None:
    """Return the size of the vocabulary of stored weights.

    Args:
        weights: Tensors by name.

    Returns:
        The number of outputs of the decoder; None for weights without one.
    """
    bias = weights.get("decoder.bias")
    return None if bias is None or bias.ndim != 1 else len(bias)


def _swapped(state: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    """Swap the dimensions of items and layers of a state."""
    if isinstance(state, Tensor):
        return state.transpose(0, 1).contiguous()
    return tuple(part.transpose(0, 1).contiguous() for part in state)


LANGUAGE_MODELS: Mapping[str, Callable[..., nn.Module]] = {
    "lstm_300": partial(RecurrentLanguageModel, "lstm", 300, layers=1),
    "lstm_300:tied": partial(RecurrentLanguageModel, "lstm", 300, layers=1, tied=True),
    "lstm_650": partial(RecurrentLanguageModel, "lstm", 650),
    "lstm_650:tied": partial(RecurrentLanguageModel, "lstm", 650, tied=True),
    "gru_300": partial(RecurrentLanguageModel, "gru", 300, layers=1),
    "gpt_small": TransformerLanguageModel,
}
"""Language models by name."""
