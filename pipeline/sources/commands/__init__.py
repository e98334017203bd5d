"""The commands of producer.py: one module each, of the command's name, with a `COMMAND`."""

from importlib import import_module
from pkgutil import iter_modules

from pipeline.sources.source import Command


def all_commands() -> dict[str, Command]:
    """Return every command by its name."""
    return {module.name: import_module(f"{__name__}.{module.name}").COMMAND for module in iter_modules(__path__)}
