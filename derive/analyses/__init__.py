"""The three problems of stochastic gradient descent, as the lecture names them, each as claims that SymPy proves.

1. ``conditioning``: the loss changes fast in one direction and slowly in another.
2. ``saddles``: the gradient vanishes at local minima and saddle points.
3. ``noise``: the gradient of a minibatch is an estimate.

They are about the update rules of the catalogue: what a step does is taken from the rules' own equations. The claims
are of the same kinds as the rules' claims, and a build stops if one of them is not proved.
"""

from __future__ import annotations

from derive.analyses.analysis import Analysis
from derive.analyses.conditioning import conditioning
from derive.analyses.noise import noise
from derive.analyses.saddles import saddles

__all__ = ["ANALYSES", "Analysis", "verify"]

#: In the order of the lecture.
ANALYSES: tuple[Analysis, ...] = (conditioning, saddles, noise)


def verify() -> str:
    """Prove every claim; a line that says how many there were.

    Raises
    ------
    derive.errors.VerificationError
        On the first claim that is not proved.
    """
    count = sum(len(analysis.proofs) for analysis in ANALYSES)
    return f"the three problems of SGD: {count} claims proved"
