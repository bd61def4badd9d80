"""What a model is told of a function, in each of the three ways in which people write it down."""

from __future__ import annotations

import pytest

from remanence.tools.docstring import read_docstring

GOOGLE = """Refund an order.

    The money moves at once.

    Args:
        order: The number of the order,
            as the customer wrote it.
        cents (int, optional): How much: in cents.

    Say it only after the customer agreed.

    Returns:
        A receipt.

    Raises:
        ValueError: Never seen by a model.
    """
NUMPY = """Refund an order.

    The money moves at once.

    Parameters
    ----------
    order : str
        The number of the order,
        as the customer wrote it.
    cents : int, optional
        How much: in cents.

    Returns
    -------
    str
        A receipt.

    Raises
    ------
    ValueError
        Never seen by a model.
    """
SPHINX = """Refund an order.

    The money moves at once.

    :param str order: The number of the order,
        as the customer wrote it.
    :param cents: How much: in cents.
    :type cents: int
    :returns: A receipt.
    :raises ValueError: Never seen by a model.
    """
ABOUT = {"order": "The number of the order, as the customer wrote it.", "cents": "How much: in cents."}


@pytest.mark.parametrize("text", [NUMPY, SPHINX])
def test_two_ways_say_the_same(text: str) -> None:
    assert read_docstring(text) == ("Refund an order.\n\nThe money moves at once.", ABOUT)


def test_what_follows_a_section_is_not_lost() -> None:
    description, about = read_docstring(GOOGLE)
    assert about == ABOUT
    assert description.split("\n\n") == [
        "Refund an order.",
        "The money moves at once.",
        "Say it only after the customer agreed.",
    ]


def test_what_follows_the_fields_is_not_lost() -> None:
    assert read_docstring("Look.\n\n:param a: one\n\nAnd then think.\n:return: two") == (
        "Look.\n\nAnd then think.",
        {"a": "one"},
    )


def test_several_parameters_may_share_a_description() -> None:
    assert read_docstring("Add.\n\nParameters\n----------\na, b : int\n    A number.\n*rest\n    More.") == (
        "Add.",
        {"a": "A number.", "b": "A number.", "rest": "More."},
    )


@pytest.mark.parametrize(
    "text",
    [
        "Times are written as 10:30: mind the colon.",
        "A list\n\nTotals\n------\nand a heading of one's own",
        ":emphasis: is no field, nor is :order: in a line",
        "",
    ],
)
def test_what_is_no_section_stays(text: str) -> None:
    assert read_docstring(text) == (text, {})


def test_entries_need_not_be_indented() -> None:
    assert read_docstring("Look.\n\nArgs:\norder: The number.\nlimit: At most.") == (
        "Look.",
        {"order": "The number.", "limit": "At most."},
    )
