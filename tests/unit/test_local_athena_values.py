"""The embedded Athena's values, as text, are those that Athena itself returns."""

import pytest

from local import athena_values


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (1.0, "1.0"),
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (100, "100.0"),
        (0.001, "0.001"),
        (0.00012, "1.2E-4"),
        (1e-5, "1.0E-5"),
        (9999999.0, "9999999.0"),
        (1e7, "1.0E7"),
        (12345678.9, "1.23456789E7"),
        (1.5e300, "1.5E300"),
        (-2.5e10, "-2.5E10"),
        ("NaN", "NaN"),
        ("Infinity", "Infinity"),
        ("-Infinity", "-Infinity"),
    ],
)
def test_floating_point_numbers_are_written_as_java_does(value, text):
    """A double is written as by Java's Double.toString: scientific from ten million up and below a thousandth."""
    assert athena_values.float_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("2024-01-02 00:00:00", "2024-01-02 00:00:00.000"),
        ("2024-01-02 00:00:00.5", "2024-01-02 00:00:00.500"),
        ("2024-01-02 00:00:00.123456", "2024-01-02 00:00:00.123"),
        ("2024-01-02 00:00:00.123 UTC", "2024-01-02 00:00:00.123 UTC"),
    ],
)
def test_timestamps_have_three_decimals(value, text):
    """A timestamp of any precision is written with milliseconds, its zone after them."""
    assert athena_values.timestamp_text(value) == text


def test_nested_values_are_written_as_athena_does():
    """Arrays, maps and rows are written with = and without quotes, a missing member as null."""
    array = {"rawType": "array", "arguments": [{"kind": "TYPE", "value": {"rawType": "double"}}]}
    assert athena_values.text([1.5, None], array) == "[1.5, null]"
    text_type = {"rawType": "varchar"}
    mapping = {"rawType": "map", "arguments": [{"kind": "TYPE", "value": text_type}, {"kind": "TYPE", "value": array}]}
    assert athena_values.text({"k": [2.0]}, mapping) == "{k=[2.0]}"


def test_null_is_no_text_and_an_empty_text_is_quoted():
    """In the result object NULL is nothing at all, and so differs from the empty text."""
    assert athena_values.csv_bytes([["a", None, "", 'say "x"']]) == b'"a",,"","say ""x"""\n'
