"""The contract of a learning rule: checks of its arguments and results, and of who caused a failure.

All checks use only shapes and dtypes, so under `jax.jit` they cost time while tracing and none afterwards. Errors in
the caller's model, parameters or loss are reported as such, regardless of how the rule failed on them.

```
wrapping ─▶ results ─▶ blame ─▶ forms, functions
```
A rule is wrapped where it enters. `results` checks what each of its functions returns, and `blame` finds out whose
fault an error is.
"""

from __future__ import annotations

from neurai_core.contract.functions import Maker
from neurai_core.contract.wrapping import admit, check, checked

__all__ = ["Maker", "admit", "check", "checked"]
