"""The site's own parts: roles and directives, checks of the chapters, and what else Sphinx is told."""
