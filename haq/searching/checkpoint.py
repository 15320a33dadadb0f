"""Record of `checkpoint.pt` of a search."""

from typing import Any

from haq.runs.records import Amount, Count, Record


class Checkpoint(Record):
    """State that the next episode depends on.

    Attributes:
        run: Settings of the search that it belongs to, as text.
        episode: Number of episodes so far.
        seconds: Time that the search has taken.
        evaluations: Distinct policies that were evaluated on the search split.
        forward_images: Images that ran through the network for these.
        agent: State of the search method: tensors and plain values.
    """

    run: str
    episode: Count
    seconds: Amount
    evaluations: Count
    forward_images: Count
    agent: dict[str, Any]
