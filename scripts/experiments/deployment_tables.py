"""Tables of exported files, in Markdown: differing codes, predictions, scores and sizes, a row for each policy."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Document = Mapping[str, Any]
"""One policy, as `deploy_networks.py` writes it."""
FORMATS = ("onnx", "onnx compact", "tflite", "packed", "c", "qonnx", "aimet")
"""Columns of the sizes; `c` is the flash of the program."""


def tables(documents: Sequence[Document]) -> str:
    """Return all tables, network by network.

    Args:
        documents: Policies, in the order of the rows.

    Returns:
        Markdown.
    """
    names = dict.fromkeys(document["network"] for document in documents)
    return "\n\n".join(_network(name, [each for each in documents if each["network"] == name]) for name in names)


def _network(name: str, documents: Sequence[Document]) -> str:
    verified = [document for document in documents if document["runtimes"]]
    parts = [f"## {name}, {documents[0]['weights']:,} weights"]
    if verified:
        parts += [
            "Codes that differ:\n\n" + _by_runtime(verified, _codes),
            "Images with the prediction of the engine, in %:\n\n" + _by_runtime(verified, _same),
            "Score, and the engine's on the same images where it is another, in %:\n\n" + _by_runtime(verified, _score),
        ]
    parts += ["Bytes:\n\n" + _sizes(documents), *_refusals(documents)]
    return "\n\n".join(parts)


def _refusals(documents: Sequence[Document]) -> Iterator[str]:
    """Yield the reasons why files are refused, each once with its policies."""
    policies: dict[str, list[str]] = {}
    for document in documents:
        missing = [each["missing"] for each in document["runtimes"] if "missing" in each]
        for reason in dict.fromkeys(
            [*missing, *(each for each in document["bytes"].values() if isinstance(each, str))]
        ):
            policies.setdefault(reason, []).append(document["policy"])
    if policies:
        yield "Refused:\n\n" + "\n".join(f"- {', '.join(names)}: {reason}" for reason, names in policies.items())


def _table(columns: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _by_runtime(documents: Sequence[Document], cell: Callable[[Document], str]) -> str:
    names = list(dict.fromkeys(each["name"] for document in documents for each in document["runtimes"]))
    images: dict[str, set[int]] = {}
    for document in documents:
        for each in document["runtimes"]:
            if "images" in each:
                images.setdefault(each["name"], set()).add(each["images"])
    heads = [f"{name} ({' or '.join(map(str, sorted(images[name])))})" if name in images else name for name in names]

    def rows() -> Iterator[Sequence[str]]:
        for document in documents:
            found = {each["name"]: each for each in document["runtimes"]}
            yield [document["policy"], *(cell(found[name]) if name in found else "" for name in names)]

    return _table(["policy", *heads], rows())


def _codes(runtime: Document) -> str:
    """Return the differing codes of layers computed in integers, and in brackets those of other layers."""
    if "missing" in runtime:
        return "refused"
    texts = []
    for key, form in (("integer", "{} of {}"), ("float", "({} of {})")):
        if runtime[key]["compared"]:
            texts.append(form.format(f"{sum(runtime[key]['differing'].values()):,}", f"{runtime[key]['compared']:,}"))
    return " ".join(texts)


def _same(runtime: Document) -> str:
    return "refused" if "missing" in runtime else f"{100 * runtime['same_predictions']:.2f}"


def _score(runtime: Document) -> str:
    if "missing" in runtime:
        return "refused"
    found, expected = (f"{100 * runtime[key]:.2f}" for key in ("score", "expected_score"))
    return found if found == expected else f"{found} ({expected})"


def _sizes(documents: Sequence[Document]) -> str:
    columns = ["policy", "bits a weight", "weight bytes", "float", *FORMATS, "tflite / w8a8", "packed / w8a8"]
    whole: Document = next((document["bytes"] for document in documents if document["policy"] == "w8a8"), {})

    def rows() -> Iterator[Sequence[str]]:
        for document in documents:
            found = document["bytes"]
            shares = (_share(found.get(name), whole.get(name)) for name in ("tflite", "packed"))
            average = f"{8 * document['weight_bytes'] / document['weights']:.2f}"
            counts = (document["weight_bytes"], document["float_bytes"], *(found.get(name) for name in FORMATS))
            yield [document["policy"], average, *map(_count, counts), *shares]

    return _table(columns, rows())


def _count(value: float | str | None) -> str:
    return f"{value:,.0f}" if isinstance(value, int | float) else "refused"


def _share(part: int | str | None, whole: int | str | None) -> str:
    return f"{part / whole:.3f}" if isinstance(part, int) and isinstance(whole, int) else ""
