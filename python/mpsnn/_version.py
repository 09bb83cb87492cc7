"""The version of the package: the one place where it is written. The build reads this file."""

__version__ = "0.1.0"
