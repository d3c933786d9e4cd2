"""The conformance kit: checks that a plugin is what its spec claims.

Every check returns an `Outcome` instead of raising. What the checks mean is on the page "What the checks mean".

Example:
    >>> from neurai_core.testing import check_algorithm
    >>> (outcome,) = check_algorithm("bp", only=["scalar-loss"])
    >>> outcome.status
    'passed'
"""

from neurai_core.testing.checking import Outcome as Outcome
from neurai_core.testing.checking import failures as failures
from neurai_core.testing.conformance import check_adapter as check_adapter
from neurai_core.testing.conformance import check_algorithm as check_algorithm
from neurai_core.testing.conformance import check_dataset as check_dataset
from neurai_core.testing.conformance import check_named as check_named
from neurai_core.testing.conformance import check_surrogate as check_surrogate
from neurai_core.testing.conformance import parametrize_with_checks as parametrize_with_checks
