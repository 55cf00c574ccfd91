"""Templates: files that become crews of jobs. `Catalog` finds and renders them.

Their libraries (YAML, JSON Schema, Jinja2) are imported when the first template is read: the start
of a server needs none of them.
"""

from scheduler.templates.catalog import SHIPPED, Catalog, Listing, TemplateNotFound
from scheduler.templates.faults import SUFFIX, BadTemplate, TemplateFault

__all__ = [
    "SHIPPED",
    "SUFFIX",
    "BadTemplate",
    "Catalog",
    "Listing",
    "TemplateFault",
    "TemplateNotFound",
]
