"""The package version, the single place where it stands."""

__version__ = '0.1.0'
