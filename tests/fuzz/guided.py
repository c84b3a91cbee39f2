"""One target under atheris, in a process of its own: `python -m tests.fuzz.guided TARGET FLAGS…`.

Coverage is that of our modules and of h11: what leads into the standard library leads nowhere.
"""

import sys

import atheris

with atheris.instrument_imports(include=["loomproxy", "h11"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    name, *flags = sys.argv[1:]
    atheris.Setup([name, *flags], TARGETS[name].check)
    atheris.Fuzz()
