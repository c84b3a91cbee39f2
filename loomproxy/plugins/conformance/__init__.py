"""The examination of a plugin against the contract: one verdict per clause, for its author to read.

From the bottom: `verdict` (clauses and what can be said of them), `wire` (one call, bounded in
every way), `scene` (the plugin in question and what was seen of it so far), `shapes` (what must
hold of a body), the clauses themselves by subject (`starting`, `setup`, `chatting`, `streaming`,
`transport`, `leaving`), and `examine`, which has them in order.
"""
