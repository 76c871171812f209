from __future__ import annotations

import datetime as dt

import jinja2
import pytest

from server.prompts.environment import TemplateRefusal, compile_template


def run(source: str, **variables: object) -> str:
    return compile_template(source).render(**variables)


def test_blocks_leave_no_white_space() -> None:
    assert run("{% if true %}\n  a\n  {% endif %}\nb\n") == "  a\nb"


def test_loop_controls() -> None:
    source = "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}"
    assert run(source + "{% if i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}") == "013"


def test_tojson_leaves_html_and_unicode_alone() -> None:
    assert run("{{ x | tojson }}", x={"a": "<é>&'"}) == '{"a": "<é>&\'"}'
    assert run("{{ x | tojson(indent=1) }}", x=[1]) == "[\n 1\n]"
    assert run("{{ x | tojson(separators=(',', ':'), sort_keys=true) }}", x={"b": 1, "a": 2}) == (
        '{"a":2,"b":1}'
    )


def test_tojson_can_escape_but_never_a_mark() -> None:
    assert (
        run("{{ x | tojson(ensure_ascii=true) }}", x="é\ufdd0🦙") == '"\\u00e9\ufdd0\\ud83e\\udd99"'
    )


def test_raise_exception() -> None:
    with pytest.raises(TemplateRefusal, match="roles must alternate"):
        run("{{ raise_exception('roles must alternate') }}")


def test_strftime_now() -> None:
    assert run("{{ strftime_now('%Y') }}") in {
        str(dt.datetime.now(dt.UTC).year + near) for near in (-1, 0, 1)
    }


def test_generation_writes_its_body_in_its_own_scope() -> None:
    assert run("a{% generation %}{% set x = 'b' %}{{ x }}{% endgeneration %}{{ x }}c") == "abc"


def test_the_sandbox_holds() -> None:
    with pytest.raises(jinja2.exceptions.SecurityError):
        run("{{ ''.__class__.__mro__ }}")
    with pytest.raises(jinja2.exceptions.SecurityError):
        run("{{ x.append(1) }}", x=[])
