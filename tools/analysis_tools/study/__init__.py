"""Studies: variants and seeds of a config, run and compared."""
