"""Whether a configuration can be served: it compiles, and the files that it names can be used."""

from loomproxy.config.compile import ConfigError, compile_snapshot
from loomproxy.config.model import Config
from loomproxy.config.problem import Problems
from loomproxy.config.trust import check_files


def judged(config: Config | Problems) -> Config | Problems:
    """`config`, unless it is not one, or cannot be compiled, or names files of no use."""
    if isinstance(config, Problems):
        return config
    try:
        compile_snapshot(config, 1)
    except ConfigError as error:
        return error.problems
    wrong = check_files(config)
    return Problems(tuple(wrong)) if wrong else config
