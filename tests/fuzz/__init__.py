"""Checks that take any bytes: the suite gives them the corpus, `scripts/fuzz` invents more."""
