"""Loader of `text:DIR`, with options as in `text:DIR?level=char&length=100`."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qsl

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from haq.errors import UserError, suggestion, validation_message
from haq.execution.networks import run_network
from haq.execution.structures import Structure, map_tensors
from haq.execution.user_code import one_line
from haq.tasks.language_modelling.splits import RULE, Layout, draw_segments
from haq.tasks.language_modelling.task import LanguageModellingTask, require_logits
from haq.tasks.language_modelling.text import Corpus, Level, read_corpus
from haq.tasks.options import TaskOptions, require_no_transform

LENGTHS: Mapping[Level, int] = {"word": 35, "char": 100}
"""Default number of tokens of a segment."""
STREAMS = 32
"""Default number of streams of all splits but the report split."""


class TextOptions(BaseModel):
    """Options of `text:DIR`.

    Attributes:
        level: Whether tokens are words or characters.
        length: Number of tokens of a segment; None for that of `LENGTHS`.
        streams: Number of streams that evaluations read side by side; None for one of the report split, so that
            perplexity is that of a loop over the text, and `STREAMS` of all others.
        min_count: Least number of times that a token of the vocabulary occurs in the training text.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    level: Level = "word"
    length: int | None = Field(None, ge=1, le=10**6)
    streams: int | None = Field(None, ge=1, le=10**6)
    min_count: int = Field(1, ge=1)


def load_text(spec: str, model: nn.Module | None, options: TaskOptions) -> LanguageModellingTask:
    """Load a folder of text.

    Args:
        spec: `text:DIR`, with options as in `text:DIR?level=char&length=100`.
        model: Network, whose state is carried over batches if it has one; None for none.
        options: Options of splits, which count segments; those of a transform do not apply.

    Returns:
        The task.

    Raises:
        UserError: A file or an option is wrong, or the network has another vocabulary.
    """
    require_no_transform(spec, options)
    folder, text = text_options(spec)
    corpus = _corpus(folder, text)
    size = len(corpus.vocabulary)
    state = None if model is None else initial_state(model, vocabulary_size=size, name=spec)
    layout = Layout(
        length=text.length or LENGTHS[text.level],
        streams=text.streams or STREAMS,
        report_streams=text.streams or (STREAMS if state is None else 1),
        with_tail=state is not None,
        unit=text.level,
    )
    splits = draw_segments(corpus, layout, options)
    facts = {
        **text.model_dump(),
        "length": layout.length,
        "streams": layout.streams,
        "report_streams": layout.report_streams,
        "vocabulary_sha256": sha256("\n".join(corpus.vocabulary).encode()).hexdigest(),
        "splits": {name: split.facts() for name, split in splits.items()},
        "rule": RULE,
        "seed": options.split_seed,
        "search_from": options.search_from,
    }
    return LanguageModellingTask(name=spec, splits=splits, vocabulary_size=size, initial_state=state, facts=facts)


def vocabulary_size(spec: str) -> int:
    """Return the number of different tokens of a text, which is the number of outputs of its networks.

    Args:
        spec: Name of the data, as for `load_text`.

    Returns:
        The number of tokens.

    Raises:
        UserError: A file or an option is wrong.
    """
    return len(_corpus(*text_options(spec)).vocabulary)


def text_options(spec: str) -> tuple[Path, TextOptions]:
    """Read the folder and the options of a name.

    Args:
        spec: `text:DIR`, with options as in `text:DIR?level=char&length=100`.

    Returns:
        The folder, and the options.

    Raises:
        UserError: There is no folder, or an option is unknown, repeated, or has a wrong value.

    Examples:
        >>> text_options("text:data/ptb?level=char")[1].level
        'char'
    """
    folder, _, query = spec.partition(":")[2].partition("?")
    if not folder:
        raise UserError(f"--data {spec!r} names no folder; write text:DIR, with options as in text:DIR?level=char")
    given = parse_qsl(query, keep_blank_values=True)
    names = [name for name, _ in given]
    for name in names:
        if name not in TextOptions.model_fields:
            fields = TextOptions.model_fields
            hint = suggestion(name, fields) or f"; choose from {', '.join(fields)}"
            raise UserError(f"{spec}: unknown option {name!r}{hint}")
        if names.count(name) > 1:
            raise UserError(f"{spec}: {name} is given {names.count(name)} times; give it once")
    try:
        return Path(folder).expanduser(), TextOptions(**dict(given))
    except ValidationError as error:
        raise UserError(f"{spec}: {validation_message(error)}") from error


def initial_state(model: nn.Module, *, vocabulary_size: int, name: str) -> Structure | None:
    """Return the state of a network at the beginning of a text: zeros, in the structure that the network returns.

    Args:
        model: Network, which is run on one token without a state.
        vocabulary_size: Number of different tokens of the data.
        name: Name of the data, for messages.

    Returns:
        State [1, ...]; None if the network returns none.

    Raises:
        UserError: The outputs are no logits of the vocabulary.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    token = torch.zeros(1, 1, dtype=torch.int64, device=device)
    try:
        with torch.no_grad():
            outputs = run_network(model, token)
    except Exception as error:  # a user's network may raise anything
        raise UserError(f"the network does not run on one token [1, 1] of {name}: {one_line(error)}") from error
    require_logits(outputs, token, vocabulary_size=vocabulary_size, name=name)
    return map_tensors(lambda x: torch.zeros_like(x, device="cpu"), outputs[1]) if isinstance(outputs, tuple) else None


def _corpus(folder: Path, text: TextOptions) -> Corpus:
    return read_corpus(folder, level=text.level, min_count=text.min_count)
