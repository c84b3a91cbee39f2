"""HTTP/1.1 for one connection, both roles: bytes come in, heads and parts come out.

Use `wire`: `RequestWire` for what a client sends, `ResponseWire` for what an upstream sends.
`framing` also encodes chunks. `lane` recognises the common head with compiled patterns; `slow` lets
h11 read all others, behind refusals. `target` says what a request is for, `refuse` how to say no.
"""
