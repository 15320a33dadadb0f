"""Text files: the tokens of their three parts, and a vocabulary from the training part."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from haq.errors import UserError
from haq.file_limits import TEXT, read_text

Level = Literal["word", "char"]
Part = Literal["train", "valid", "test"]
PATTERNS = ("{}.txt", "ptb.{}.txt", "wiki.{}.tokens")
"""Names of the files: plain, of the Penn Treebank, of WikiText."""
END, UNKNOWN = "<eos>", "<unk>"
"""Token at the end of each line of words, and token of words that are not in the vocabulary."""


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """Text as numbers of tokens.

    Attributes:
        vocabulary: Tokens by number, the most frequent of the training text first.
        parts: Numbers of the tokens, int64 [tokens], of each part.
    """

    vocabulary: Sequence[str]
    parts: Mapping[Part, Tensor]


def read_corpus(folder: Path, *, level: Level, min_count: int = 1) -> Corpus:
    """Read a folder of text.

    Words are separated by whitespace, and each line ends with `<eos>`. Tokens that the training text has less than
    `min_count` times, and tokens of the other parts that it does not have, become `<unk>`.

    Args:
        folder: Folder with `train.txt`, `valid.txt` and `test.txt`, or files named like those of PTB or WikiText.
        level: Whether tokens are words or characters.
        min_count: Least number of times that a token of the vocabulary occurs in the training text.

    Returns:
        The tokens of all parts.

    Raises:
        UserError: A file is missing, empty, too large or not UTF-8; all tokens of the training text are the same; or
            valid or test have tokens that it does not have, and there is no `<unk>` for them.
    """
    paths = find_files(folder)
    state = tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for path in paths.values())
    return _read(level, min_count, state)


@lru_cache(maxsize=2)
def _read(level: Level, min_count: int, state: tuple[tuple[Path, int, int], ...]) -> Corpus:
    """Read the files of `state`; the corpus is needed twice, for the size of a network and for its data."""
    paths = dict(zip(get_args(Part), (path for path, _, _ in state), strict=True))
    texts = {part: list(tokens(_text(path), level)) for part, path in paths.items()}
    counts = Counter(texts["train"])
    kept = [token for token, count in counts.items() if count >= min_count or token == UNKNOWN]
    if len(kept) < len(counts) and UNKNOWN not in counts:
        kept.append(UNKNOWN)
    if len(kept) < 2:
        raise UserError(f"{paths['train']} has a vocabulary of {len(kept)} token; give more text, or a lower min_count")
    vocabulary = sorted(kept, key=lambda token: (-counts[token], token))
    numbers = {token: number for number, token in enumerate(vocabulary)}
    if UNKNOWN not in numbers:
        for part, path in paths.items():
            _require_known(path, texts[part], numbers, train=paths["train"])
    unknown = numbers.get(UNKNOWN, -1)
    parts = {part: torch.tensor([numbers.get(each, unknown) for each in text]) for part, text in texts.items()}
    return Corpus(tuple(vocabulary), parts)


def find_files(folder: Path) -> dict[Part, Path]:
    """Find the files of the three parts.

    Args:
        folder: Folder with text files.

    Returns:
        The files by part.

    Raises:
        UserError: The folder or a file is missing.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give one with train.txt, valid.txt and test.txt")
    found = [{part: folder / pattern.format(part) for part in get_args(Part)} for pattern in PATTERNS]
    best = max(found, key=lambda paths: sum(path.is_file() for path in paths.values()))
    missing = [path.name for path in best.values() if not path.is_file()]
    if missing:
        raise UserError(
            f"{folder} has no {missing[0]}; expected train.txt, valid.txt and test.txt, or ptb.train.txt ..."
        )
    return best


def tokens(text: str, level: Level) -> Iterator[str]:
    r"""Split a text into tokens.

    Args:
        text: Text with line feeds.
        level: Whether tokens are words or characters.

    Yields:
        Characters, or words with `<eos>` after those of each line.

    Examples:
        >>> list(tokens("to be\nor not\n", "word"))
        ['to', 'be', '<eos>', 'or', 'not', '<eos>']
    """
    if level == "char":
        yield from text
        return
    for line in text.removesuffix("\n").split("\n"):
        yield from line.split()
        yield END


def _text(path: Path) -> str:
    text = read_text(path, TEXT)
    if not text.strip():
        raise UserError(f"{path} is empty; give a text")
    return text


def _require_known(path: Path, text: Sequence[str], numbers: Mapping[str, int], *, train: Path) -> None:
    unseen = [token for token in dict.fromkeys(text) if token not in numbers]
    if unseen:
        raise UserError(
            f"{path.name} has {len(unseen)} tokens that {train.name} does not have, such as {unseen[0]!r}, and there "
            f"is no {UNKNOWN} for them; add min_count=2 to --data, as in text:DIR?min_count=2, to read rare ones as "
            f"{UNKNOWN}"
        )
