"""The beginning of a plugin: a folder from a template, in a language of its author's choice."""
