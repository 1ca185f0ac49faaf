"""Shrinkage for few samples: estimates are drawn towards the mean of the same action on the other questions.

In the Beta-binomial model the questions' true utilities are Beta with mean mu and variance tau^2, and an estimate is as good
as a success rate of m trials, whatever the action draws: m = (mu (1 - mu) - tau^2) / w^2, where w^2 is the mean squared
standard error. The posterior mean is then

    m / (m + M) * estimate + M / (m + M) * mu,    M = mu (1 - mu) / tau^2 - 1,    so that m / (m + M) = tau^2 / (tau^2 + w^2),

the best linear predictor whatever the distributions are (Buehlmann's credibility), with mu, tau^2 and w^2 by moments. A
question's w^2 goes with 1 / n, so that questions with one sample, whose own error is unknown, borrow the others'. With many
samples w goes to 0, and shrinkage with it.

It presumes that the questions are exchangeable: a question of another kind than the rest is drawn the wrong way. And it
lowers the error of each question, not of a mean over questions: score plans on a table without it.

Sources: Buehlmann 1967 (ASTIN Bull. 4:199); Morris 1983 (JASA 78:47).
"""

from __future__ import annotations

import numpy as np

METHODS = ("empirical_bayes",)


def shrunk(
    utility: np.ndarray, error: np.ndarray, samples: np.ndarray, valid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior means and deviations of one action's utilities over N questions.

    Args:
      utility: f[N] unbiased estimates.
      error: f[N] their standard errors; NaN where one sample leaves it unknown.
      samples: i[N] logged samples behind each.
      valid: bool[N]; the others stay as they are.

    Raises:
      ValueError: fewer than 2 valid questions, from which nothing is learned about a third; or one sample on each, which
        cannot tell questions that differ from samples that do.

    >>> mean, _ = shrunk(np.array([0.0, 1.0, 0.5, 0.5]), np.full(4, 0.2), np.full(4, 4), np.ones(4, bool))
    >>> mean.round(2).tolist()
    [0.12, 0.88, 0.5, 0.5]
    """
    if valid.sum() < 2:
        raise ValueError(f"shrinkage learns from the other questions, and there are {valid.sum()} with samples")
    estimate, n = utility[valid].astype(np.float64), np.maximum(samples[valid], 1)
    mean, squares = estimate.mean(), error[valid].astype(np.float64) ** 2
    known = np.isfinite(squares)
    if not known.any():
        raise ValueError(
            "shrinkage needs two samples or more on some questions: single ones do not show how samples differ"
        )
    noise = (squares * n)[known].mean() / n  # w^2 of each question: its own squared error is too noisy to weigh it by
    between = np.clip(estimate.var(ddof=1) - noise.mean(), 0, mean * (1 - mean))
    weight = np.where(noise > 0, between / np.where(noise > 0, between + noise, 1), 1.0)
    posterior = mean + weight * (estimate - mean)
    trials = np.maximum(mean * (1 - mean) - between, 0) * (1 / np.where(noise > 0, noise, 1))
    prior = mean * (1 - mean) / between - 1 if between > 0 else np.inf
    spread = np.sqrt(np.maximum(posterior * (1 - posterior), 0) / (trials + prior + 1))
    out, deviation = utility.astype(np.float64), error.astype(np.float64)
    out[valid] = np.clip(posterior, 0, 1)
    deviation[valid] = np.where(noise > 0, spread, 0)
    return out, deviation
