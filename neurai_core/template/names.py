"""The names in a new distribution, all made of the one that its author gives."""

from __future__ import annotations

import keyword
import re
import unicodedata
from importlib.util import find_spec
from typing import NamedTuple

from neurai_core.errors import BlockedName, DuplicateName, UnknownName, UsageError
from neurai_core.naming import normalize_distribution
from neurai_core.registry import REGISTRY

_FORM = re.compile(r"[A-Za-z](?:[-_]?[A-Za-z0-9])*")
_PREFIX = "neurai-"  # helps people to find it, and keeps its package apart from other libraries


class Names(NamedTuple):
    """The names in a new distribution.

    Attributes:
        kind: kind of its plugin, such as ``algorithm``.
        name: lookup name of its plugin.
        distribution: what pip installs.
        package: what Python imports.
        class_name: name of its class, and the beginning of that of its settings.
    """

    kind: str
    name: str
    distribution: str
    package: str
    class_name: str

    @classmethod
    def of(cls, kind: str, name: str) -> Names:
        """The names that follow from a lookup name.

        Raises:
            UsageError: a part of them is not a valid name.

        >>> Names.of("algorithm", "my-rule")[1:]
        ('my-rule', 'neurai-my-rule', 'neurai_my_rule', 'MyRule')
        """
        if not _FORM.fullmatch(name):
            raise UsageError(
                f"{name!r} cannot name a package: expected letters and digits of ASCII, with single dashes between "
                "them, and a letter at the beginning.",
                _nearest(name),
            )
        distribution = normalize_distribution(name if name.lower().startswith(_PREFIX) else _PREFIX + name)
        class_name = "".join(part[0].upper() + part[1:] for part in re.split("[-_]", name))
        if keyword.iskeyword(class_name) or class_name in ("Facts", "Surrogate"):
            raise UsageError(
                f"{name!r} cannot name a class: {class_name!r} already means something in its module.",
                f"For example my-{name}.",
            )
        return cls(kind, name, distribution, distribution.replace("-", "_"), class_name)

    def check_free(self) -> None:
        """Check that nothing installed has one of these names.

        Raises:
            UsageError: the lookup name or the package is taken.
        """
        try:
            owner = REGISTRY.find(self.kind, self.name)
        except (BlockedName, DuplicateName) as error:
            raise UsageError(error.message, "Choose another name.") from error
        except UnknownName:
            pass
        else:
            raise UsageError(f"The {self.kind} {self.name!r} is already there: {owner}.", "Choose another name.")
        if find_spec(self.package) is not None:
            raise UsageError(
                f"{self.name!r} cannot be used: the package {self.package!r} is already there.",
                "Choose another name, or uninstall the distribution that it belongs to.",
            )


def _nearest(name: str) -> str:
    """The nearest valid name, for a hint."""
    letters = unicodedata.normalize("NFKD", name).replace("ß", "ss").encode("ascii", "ignore").decode()
    words = re.sub(r"[^A-Za-z0-9]+", "-", letters).strip("-") or "rule"
    return f"For example {words if words != 'rule' and _FORM.fullmatch(words) else 'my-' + words}."
