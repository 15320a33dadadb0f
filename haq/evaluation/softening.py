"""How far outputs are softened before they are compared, so that most images have a say in how close they are."""

from torch import Tensor

SHARE = 0.9
"""Of the images, that shall count."""
TEMPERATURES = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 16.0)


def sufficient_temperature(logits: Tensor) -> float:
    """The lowest of `TEMPERATURES` at which enough of the images of `logits` [n, classes] count; or the highest.

    To second order the KL divergence of disturbed outputs weighs an image's disturbance with diag(p) - p p^T, whose
    trace is 1 - |p|^2: hardly anything where the network is sure. So a sure network is judged by its few doubtful
    images, and what is good for these is not good for others. As many images count as their effective number says,
    (sum w)^2 / sum w^2 with these weights (Kish 1965).

    >>> from torch import tensor
    >>> sufficient_temperature(tensor([[0.0, 1.0], [0.0, 2.0]]))
    1.0
    >>> sufficient_temperature(tensor([[0.0, 1.0], [0.0, 9.0]]))
    6.0
    """
    for temperature in TEMPERATURES:
        weights = 1 - (logits.double() / temperature).softmax(dim=1).square().sum(dim=1)
        if weights.sum() ** 2 >= SHARE * len(weights) * weights.square().sum() > 0:
            return temperature
    return TEMPERATURES[-1]
