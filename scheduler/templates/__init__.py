"""Templates: files that become crews of jobs. `Catalog` finds and renders them."""

from scheduler.templates.catalog import SHIPPED, Catalog, Listing, TemplateNotFound
from scheduler.templates.check import read_template
from scheduler.templates.format import SUFFIX, BadTemplate, Template, TemplateFault

__all__ = [
    "SHIPPED",
    "SUFFIX",
    "BadTemplate",
    "Catalog",
    "Listing",
    "Template",
    "TemplateFault",
    "TemplateNotFound",
    "read_template",
]
