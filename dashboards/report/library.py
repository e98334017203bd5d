"""Vega, Vega-Lite and Vega-Embed as one script, which draws the report's charts without a network."""

import os
import re
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import altair as alt
import vl_convert


def library() -> str:
    """Return the script, of the version that altair writes for.

    Bundling takes two seconds and gives the same text every time, so the user's cache folder keeps it.
    """
    version = ".".join(re.findall(r"\d+", alt.SCHEMA_VERSION)[:2])
    kept = _cache() / f"vega-lite-{version}-by-vl-convert-{metadata.version('vl-convert-python')}.js"
    with suppress(OSError, UnicodeDecodeError):
        return kept.read_text(encoding="utf-8")
    bundle = vl_convert.javascript_bundle(vl_version=version)  # type: ignore[call-arg]  # the stub lacks a default
    bundle = bundle.replace("</script", "<\\/script")
    with suppress(OSError):
        _write(kept, bundle)
    return bundle


def _cache() -> Path:
    """Return the folder that the XDG Base Directory Specification gives to caches, and in it our own."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stock-market-data-pipeline"


def _write(path: Path, text: str) -> None:
    """Write the file whole or not at all: a half one would be read the next time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
