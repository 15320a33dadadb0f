"""Reading of text folders: tokens, vocabulary, unseen tokens, options, and what is refused."""

from pathlib import Path

import pytest

from haq.errors import UserError
from haq.tasks.language_modelling.loading import text_options, vocabulary_size
from haq.tasks.language_modelling.text import read_corpus
from haq.tasks.loading import load_task
from haq.tasks.options import TaskOptions

Texts = tuple[str, str, str]


def written(folder: Path, texts: Texts, pattern: str = "{}.txt") -> Path:
    for part, text in zip(("train", "valid", "test"), texts, strict=True):
        (folder / pattern.format(part)).write_text(text, encoding="utf-8")
    return folder


def words(folder: Path, part: str, *, min_count: int = 1) -> list[str]:
    corpus = read_corpus(folder, level="word", min_count=min_count)
    return [corpus.vocabulary[number] for number in corpus.parts[part].tolist()]  # type: ignore[index]


@pytest.mark.parametrize("pattern", ["{}.txt", "ptb.{}.txt", "wiki.{}.tokens"])
def test_words_are_split_at_whitespace_and_lines_end_with_eos(tmp_path: Path, pattern: str) -> None:
    folder = written(tmp_path, ("a  b\n\nb\tc\n", "a\r\nb\r\n", "c"), pattern)
    assert words(folder, "train") == ["a", "b", "<eos>", "<eos>", "b", "c", "<eos>"]
    assert words(folder, "valid") == ["a", "<eos>", "b", "<eos>"]
    assert words(folder, "test") == ["c", "<eos>"]


def test_the_vocabulary_is_that_of_the_training_text_by_frequency(tmp_path: Path) -> None:
    folder = written(tmp_path, ("b b b a c a\n", "a\n", "b\n"))
    assert read_corpus(folder, level="word").vocabulary == ("b", "a", "<eos>", "c")


def test_characters_include_spaces_and_line_feeds(tmp_path: Path) -> None:
    folder = written(tmp_path, ("ab\n a", "a", "b"))
    corpus = read_corpus(folder, level="char")
    assert corpus.vocabulary == ("a", "\n", " ", "b")
    assert corpus.parts["train"].tolist() == [0, 3, 1, 2, 0]


def test_unseen_words_become_unk_if_the_training_text_has_it(tmp_path: Path) -> None:
    folder = written(tmp_path, ("a <unk> b\n", "a new\n", "b\n"))
    assert words(folder, "valid") == ["a", "<unk>", "<eos>"]


def test_rare_words_become_unk_on_request(tmp_path: Path) -> None:
    folder = written(tmp_path, ("a a b\na\n", "a new\n", "a\n"))
    assert words(folder, "train", min_count=2) == ["a", "a", "<unk>", "<eos>", "a", "<eos>"]
    assert words(folder, "valid", min_count=2) == ["a", "<unk>", "<eos>"]


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    folder = written(tmp_path, ("a b\n", "a\n", "b\n"))
    assert vocabulary_size(f"text:{folder}") == 3
    written(folder, ("a b c d\n", "a\n", "b\n"))
    assert vocabulary_size(f"text:{folder}") == 5


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("a b\n", "a new word\n", "a\n"), r"valid\.txt has 2 tokens that train\.txt .* 'new'.*min_count=2"),
        (("a b\n", "\n", "a\n"), r"valid\.txt is empty"),
        (("", "a\n", "a\n"), r"train\.txt is empty"),
    ],
)
def test_unusable_texts_are_named(tmp_path: Path, texts: Texts, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_task(f"text:{written(tmp_path, texts)}")


def test_a_vocabulary_of_one_token_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path, ("a b\n", "a\n", "b\n"))
    with pytest.raises(UserError, match=r"train\.txt has a vocabulary of 1 token"):
        load_task(f"text:{folder}?min_count=9")


def test_a_text_shorter_than_a_segment_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path, ("a b c\n" * 20, "a b c\n", "a b c\n" * 20))
    with pytest.raises(UserError, match=r"valid has 4 words, and one segment takes 36; .*length"):
        load_task(f"text:{folder}")
    assert load_task(f"text:{folder}?length=3").size("search") == 1


def test_more_segments_than_there_are_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path, ("a b c\n" * 20, "a b c\n" * 5, "a b c\n" * 5))
    with pytest.raises(UserError, match="50 segments asked of valid, which has 6"):
        load_task(f"text:{folder}?length=3", options=TaskOptions(search_images=50))


def test_missing_files_and_other_encodings_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        load_task(f"text:{tmp_path / 'missing'}")
    with pytest.raises(UserError, match=r"has no train\.txt"):
        load_task(f"text:{tmp_path}")
    (tmp_path / "ptb.train.txt").write_text("a\n")
    with pytest.raises(UserError, match=r"has no ptb\.valid\.txt"):
        load_task(f"text:{tmp_path}")
    folder = written(tmp_path, ("a\n", "a\n", "a\n"))
    (folder / "valid.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(UserError, match=r"valid\.txt is no text: byte 3 is not UTF-8"):
        load_task(f"text:{folder}")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("lenght=3", "unknown option 'lenght'; did you mean length"),
        ("xyz=3", "unknown option 'xyz'; choose from level, length, streams, min_count"),
        ("level=letter", "level: input should be 'word' or 'char'"),
        ("length=0", "length: input should be greater than or equal to 1"),
        ("streams=many", "streams: input should be a valid integer"),
        ("length=3&length=4", "length is given 2 times"),
    ],
)
def test_wrong_options_are_named(query: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        text_options(f"text:folder?{query}")
