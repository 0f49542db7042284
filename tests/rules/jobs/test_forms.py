from __future__ import annotations

from flowforge.rules.jobs import forms

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def test_json_that_fits_has_no_problem() -> None:
    assert forms.find_problem('{"a": 1}', SCHEMA) is None


def test_what_does_not_fit_is_named_with_its_place() -> None:
    assert forms.find_problem("so", SCHEMA) == (
        "it is no JSON: Expecting value: line 1 column 1 (char 0)"
    )
    assert forms.find_problem('{"a": "x"}', SCHEMA) == "a: 'x' is not of type 'integer'"
    assert forms.find_problem("{}", SCHEMA) == "the whole: 'a' is a required property"


def test_a_schema_that_is_wrong_is_said_to_be_so() -> None:
    problem = forms.find_problem("{}", {"type": "nonsense"})
    assert str(problem).startswith("the schema itself is wrong: ")
