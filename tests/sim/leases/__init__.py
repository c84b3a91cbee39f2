"""Random worlds in which many want one lease: `world` plays them, `mutants` are bugs put in."""
