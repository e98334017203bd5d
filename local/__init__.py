"""The embedded stack: Apache Kafka, a local AWS and Trino behind the Athena API, for laptops and tests.

Product code never imports this package and this package imports nothing of the product; they meet in environment
variables only (see `Stack.environment`).
"""


class StackError(Exception):
    """The stack cannot do what was asked; the message says why, which log tells more, and what to do."""
