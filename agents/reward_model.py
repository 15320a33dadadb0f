"""Bayesian model of the loss of a policy, for few evaluations.

Quantization errors of many layers add up at the outputs, and every bit less makes the error of a layer about four times
as large (Lin, Talathi and Annapureddy 2016, arXiv 1511.06393). The loss of a policy is therefore modelled as

    log loss = log sum_d (exp theta[d, weights, w_d] + exp theta[d, activations, a_d]) + residual

with Gaussian priors on theta and on the residual, which stands for non-additive effects: interactions of layers,
saturation. The posterior is a Laplace approximation: around the most probable theta the log sum is linearised, which
leaves Gaussian process regression in closed form (Rasmussen and Williams 2006, equations 2.25, 2.26, 5.8 and 5.9). The
scale of each component of the prior maximises the marginal likelihood.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from agents.base import FloatArray, IntArray
from agents.loss_terms import log_sum_exp, residual_covariances, term_indices
from agents.term_covariance import TermCovariance, component_covariances
from agents.term_sums import TermSums, UsedTerms

DEFAULT_SCALES = np.array([2.0, 0.15, 0.7, 0.7, 0.7, 0.15, 0.3, 0.1, 0.3, 0.05])
"""Default standard deviations in nats of loss: the seven components of theta, the two of the residual, and observation
noise.
"""
MEASURED_PRIOR_SCALES = np.array([2.0, 0.2, 0.4, 0.35, 0.35, 0.1, 0.2, 0.1, 0.3, 0.05])
"""The same if the prior mean was measured on the network, each layer alone."""
THETA, RESIDUAL, NOISE = slice(0, 7), slice(7, 9), 9
SCALE_PRIOR_STD = 1.0
"""Standard deviation of the logarithms of fitted scales around the default ones."""
ACCURATE_RANGE = 1.0
"""Nats above the best log loss within which the observation noise is constant; it grows with the distance beyond."""

_CONVERGED = 0.01
"""Largest change of theta, in nats, after which it is not linearised again: an observation is noisier by far."""


@dataclass(frozen=True, slots=True, eq=False)
class _Posterior:
    """Quantities needed for predictions; the most probable theta is the point of linearisation."""

    bits: IntArray
    sums: TermSums
    """The linearised log sums."""
    pseudo: FloatArray
    """[policy]: targets of the linearised model, minus the prior mean."""
    residual: FloatArray
    """Prior covariance of residual and noise together, [policy, policy]."""
    factor: FloatArray
    """Lower Cholesky factor of the covariance of the targets."""
    weights: FloatArray
    """Inverse of that covariance times `pseudo`."""

    @property
    def log_marginal_likelihood(self) -> float:
        """Logarithm of the marginal likelihood of the targets, up to a constant."""
        return float(-0.5 * self.pseudo @ self.weights - np.log(np.diag(self.factor)).sum())


class RewardModel:
    """Gaussian model of the logarithm of the loss.

    Args:
        prior_mean: Prior mean of theta, [decision, 2, width].
        prior_scales: Standard deviations of the components of the prior, `DEFAULT_SCALES` or `MEASURED_PRIOR_SCALES`.

    Example:
        >>> prior_mean = np.tile(-np.log(4.0) * np.arange(1, 9), (3, 2, 1))
        >>> model = RewardModel(prior_mean)
        >>> bits = np.array([[[8, 8], [2, 8], [8, 8]], [[8, 8], [4, 8], [8, 8]]])
        >>> model.fit(bits, np.log([0.1, 0.01]))
        >>> mean, std = model.predict(bits)
        >>> bool(np.abs(mean - np.log([0.1, 0.01])).max() < 0.2)
        True
    """

    def __init__(self, prior_mean: FloatArray, *, prior_scales: FloatArray = DEFAULT_SCALES) -> None:
        self.shape = prior_mean.shape
        self._prior_mean = prior_mean.ravel()
        self._theta = self._prior_mean.copy()
        self._posterior: _Posterior | None = None
        self._prior_scales = prior_scales
        self._set_scales(prior_scales.copy())

    @property
    def theta(self) -> FloatArray:
        """Most probable theta [decision, 2, width]: the logarithm of the loss of each term alone."""
        return self._theta.reshape(self.shape)

    @property
    def theta_std(self) -> FloatArray:
        """Posterior standard deviation of theta, [decision, 2, width]."""
        variance = self._covariance.diagonal
        if self._posterior is not None:
            data_to_theta = self._covariance.times(self._posterior.sums.dense())
            explained = solve_triangular(self._posterior.factor, data_to_theta, lower=True)
            variance = variance - (explained**2).sum(axis=0)
        return np.asarray(np.sqrt(np.maximum(variance, 0)).reshape(self.shape))

    @property
    def log_marginal_likelihood(self) -> float:
        """Logarithm of the marginal likelihood of the fitted data, up to a constant."""
        return self._fitted.log_marginal_likelihood

    def fit(self, bits: IntArray, targets: FloatArray, *, best: float | None = None, rounds: int = 4) -> None:
        """Fit the posterior to observed log losses, starting from the last theta.

        Args:
            bits: Policies [policy, decision, 2].
            targets: Their log losses [policy].
            best: Log loss around which accuracy matters most, that of the best policy; the smallest target when None.
            rounds: Maximum number of linearisations.
        """
        terms = UsedTerms(bits, self.shape[2])
        roots = self._covariance.roots(terms)
        excess = np.maximum(targets - (targets.min() if best is None else best) - ACCURATE_RANGE, 0)
        residual = np.tensordot(self._scales[RESIDUAL] ** 2, residual_covariances(bits, bits), 1)
        residual[np.diag_indices(len(bits))] += self._scales[NOISE] ** 2 + (0.3 * excess) ** 2
        for _ in range(rounds):
            values, shares = log_sum_exp(self._theta, terms.of_policies)
            sums = TermSums(terms, shares)
            factor = cholesky(self._covariance.of(sums, roots) + residual, lower=True)
            pseudo = targets - values + sums.applied_to(self._theta - self._prior_mean)
            weights = cho_solve((factor, True), pseudo)
            self._posterior = _Posterior(bits, sums, pseudo, residual, factor, weights)
            found = self._prior_mean + self._covariance.times(sums.combined(weights[None]))[0]
            # A full step may overshoot if the shares change along it.
            step = np.clip(found - self._theta, -1.5, 1.5)
            self._theta = self._theta + step
            if np.abs(step).max() < _CONVERGED:
                break

    def fit_scales(self) -> None:
        """Maximise the marginal likelihood over the scales of the prior's components; call `fit` again afterwards."""
        posterior = self._fitted
        through = component_covariances(posterior.sums.dense(), self.shape[0], self.shape[2])
        count = len(posterior.pseudo)
        parts = np.stack([*through, *residual_covariances(posterior.bits, posterior.bits), np.eye(count)])
        own = (
            np.diag(posterior.residual) - self._scales[RESIDUAL].dot(self._scales[RESIDUAL]) - self._scales[NOISE] ** 2
        )
        extra = np.diag(np.maximum(own, 0) + 1e-8)

        def objective(log_scales: FloatArray) -> tuple[float, FloatArray]:
            value, gradient = _minus_log_likelihood(log_scales, parts, extra, posterior.pseudo)
            away = (log_scales - centre) / SCALE_PRIOR_STD
            return value + 0.5 * float(away @ away), gradient + away / SCALE_PRIOR_STD

        centre = np.log(self._prior_scales)
        bounds = list(zip(centre - 3, centre + 3, strict=True))
        found = minimize(
            objective, np.log(self._scales), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 30}
        )
        self._set_scales(np.exp(found.x))

    def predict(self, bits: IntArray) -> tuple[FloatArray, FloatArray]:
        """Predict log losses.

        Args:
            bits: Policies [policy, decision, 2].

        Returns:
            Mean and standard deviation, [policy] each.
        """
        terms = UsedTerms(bits, self.shape[2])
        mean, shares = log_sum_exp(self._theta, terms.of_policies)
        sums = TermSums(terms, shares)
        variance = self._covariance.variances_of(sums) + (self._scales[RESIDUAL] ** 2).sum()
        if self._posterior is not None:
            posterior = self._posterior
            residual = self._residual_to_data(bits)
            from_data = self._covariance.between(posterior.sums, sums) + residual.T
            mean = mean + residual @ posterior.weights
            variance = variance - (solve_triangular(posterior.factor, from_data, lower=True) ** 2).sum(axis=0)
        return mean, np.sqrt(np.maximum(variance, 1e-12))

    def predict_mean(self, bits: IntArray) -> FloatArray:
        """Predict the means of log losses alone, which is cheaper.

        Args:
            bits: Policies [policy, decision, 2].

        Returns:
            Means [policy].
        """
        mean, _ = log_sum_exp(self._theta, term_indices(bits, self.shape[2]))
        return mean if self._posterior is None else mean + self._residual_to_data(bits) @ self._posterior.weights

    def sample(self, generator: np.random.Generator, count: int) -> FloatArray:
        """Sample theta from the posterior.

        A sample of the prior, corrected by the data (Matheron's rule; Wilson et al. 2020, arXiv 2002.09309).

        Args:
            generator: Source of random numbers.
            count: Number of samples.

        Returns:
            Samples [sample, decision, 2, width].
        """
        prior = self._covariance.sample(generator, count)
        if self._posterior is None:
            return np.asarray((self._prior_mean + prior).reshape(count, *self.shape))
        posterior = self._posterior
        rest = cholesky(posterior.residual, lower=True) @ generator.standard_normal((len(posterior.pseudo), count))
        weights = cho_solve((posterior.factor, True), posterior.sums.applied_to(prior.T) + rest)
        correction = self._covariance.times(posterior.sums.combined(weights.T))
        return np.asarray((self._theta + prior - correction).reshape(count, *self.shape))

    def state_dict(self) -> dict[str, Any]:
        """Return theta and the scales, from which the next `fit` starts; observations are not included."""
        return {"theta": torch.tensor(self._theta), "scales": torch.tensor(self._scales)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state returned by `state_dict`; takes effect with the next `fit`."""
        self._theta = state["theta"].numpy().copy()
        self._set_scales(state["scales"].numpy().copy())
        self._posterior = None

    @property
    def _fitted(self) -> _Posterior:
        assert self._posterior is not None, "fit first"
        return self._posterior

    def _set_scales(self, scales: FloatArray) -> None:
        self._scales = scales
        self._covariance = TermCovariance(self.shape[0], self.shape[2], scales[THETA] ** 2)

    def _residual_to_data(self, bits: IntArray) -> FloatArray:
        return np.asarray(np.tensordot(self._scales[RESIDUAL] ** 2, residual_covariances(bits, self._fitted.bits), 1))


def _minus_log_likelihood(
    log_scales: FloatArray, parts: FloatArray, extra: FloatArray, targets: FloatArray
) -> tuple[float, FloatArray]:
    """Compute the negative log marginal likelihood and its gradient with respect to the log scales.

    Rasmussen and Williams 2006, equation 5.9.
    """
    variances = np.exp(2 * log_scales)
    factor = cholesky(np.tensordot(variances, parts, 1) + extra, lower=True)
    weights = cho_solve((factor, True), targets)
    inverse = cho_solve((factor, True), np.eye(len(targets)))
    by_variance = 0.5 * np.tensordot(parts, np.outer(weights, weights) - inverse, 2)
    likelihood = -0.5 * targets @ weights - np.log(np.diag(factor)).sum()
    return -likelihood, -2 * variances * by_variance
