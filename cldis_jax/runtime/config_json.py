"""Configs as JSON: what a record of an earlier version means today."""

from typing import Any


def upgrade(values: dict[str, Any]) -> dict[str, Any]:
    """The config of a record of any version, as nested JSON values, with the fields of today."""
    return values
