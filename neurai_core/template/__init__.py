"""New distributions: a rule or a surrogate that passes its own tests, for its author to edit."""

from neurai_core.template.creating import create as create
from neurai_core.template.names import Names as Names
