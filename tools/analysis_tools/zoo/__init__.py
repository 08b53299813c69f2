"""The model zoo: filled by the configs and by measurements."""
