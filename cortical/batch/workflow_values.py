"""What stands for values in a workflow: references, text templates, and conditions made of them.

``{"from": "steps.load.rows"}`` stands for what is found there, as it is. ``{"template": "…"}`` is a text in which
Jinja2's sandbox fills in values (the extra ``templates``). A condition is one of these, or a table of one key:
``not``, ``all``, ``any``, ``equals``, ``above``, ``below``, ``in``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from cortical.batch.references import resolved
from cortical.core.checks import require_keys, shown
from cortical.core.errors import InvalidInput, WrongType
from cortical.core.extras import require_extra

FROM: Final = "from"
TEMPLATE: Final = "template"
#: Where the values of a workflow are found: given at its start, made by its steps, and why a step failed.
PARAMETERS: Final = "parameters"
STEPS: Final = "steps"
ERRORS: Final = "errors"
SCOPE: Final = (PARAMETERS, STEPS, ERRORS)


def references(value: Any) -> Iterator[str]:
    """The paths of all references in a value, however deep.

    Raises:
        WrongType: one of them is no text.
    """
    for found in _marked(value, FROM):
        if not isinstance(found, str) or not found:
            raise WrongType(f'a reference is written {{"from": "steps.load.rows"}}, not {{"from": {shown(found)}}}')
        yield found


def templates(value: Any) -> Iterator[Any]:
    """The texts of all templates in a value, however deep."""
    return _marked(value, TEMPLATE)


def filled_in(value: Any, scope: Mapping[str, Any], *, roots: tuple[str, ...] = SCOPE) -> Any:
    """`value` with its templates filled in, and those references replaced that begin with one of `roots`.

    Raises:
        InvalidInput: one leads nowhere, or a template is none.
        MissingExtra: there is a template, and Jinja2 is not installed.
    """
    if isinstance(value, Mapping):
        if value.keys() == {FROM}:
            return resolved(value, scope) if str(value[FROM]).split(".", 1)[0] in roots else value
        if value.keys() == {TEMPLATE}:
            return _text(value[TEMPLATE], scope)
        return {name: filled_in(part, scope, roots=roots) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [filled_in(part, scope, roots=roots) for part in value]
    return value


def require_template(text: object) -> None:
    """Refuse a template that cannot be read.

    Raises:
        WrongType, InvalidInput: it is no text, or no template.
        MissingExtra: Jinja2 is not installed.
    """
    if not isinstance(text, str):
        raise WrongType(f"a template is a text, not {shown(text)}")
    environment, trouble = _environment()
    try:
        environment.parse(text)
    except trouble as error:
        raise InvalidInput(f"the template {text!r} cannot be read: {error}") from error


def holds(condition: Any, scope: Mapping[str, Any]) -> bool:
    """Whether a condition holds.

    Raises:
        InvalidInput: a reference in it leads nowhere, or it is no condition.
        WrongType: two values cannot be compared.
    """
    if isinstance(condition, Mapping) and condition.keys() not in ({FROM}, {TEMPLATE}):
        name, given = _operator(condition)
        return _OPERATORS[name](given, scope)
    return bool(filled_in(condition, scope))


def require_condition(condition: Any) -> None:
    """Refuse what is no condition.

    Raises:
        InvalidInput, WrongType: it is none; the message says what one is.
    """
    if not isinstance(condition, Mapping) or condition.keys() in ({FROM}, {TEMPLATE}):
        return
    name, given = _operator(condition)
    if name == "not":
        require_condition(given)
        return
    if not isinstance(given, list | tuple) or (name in _COMPARISONS and len(given) != 2):
        what = "two values" if name in _COMPARISONS else "several conditions"
        raise WrongType(f"{name!r} is asked of a list of {what}, not of {shown(given)}")
    for part in given if name not in _COMPARISONS else ():
        require_condition(part)


def _operator(condition: Mapping[str, Any]) -> tuple[str, Any]:
    require_keys(condition, (*_OPERATORS, FROM, TEMPLATE), "a condition")
    if len(condition) != 1:
        raise InvalidInput(
            f"a condition is a table of one key, not of {len(condition)}; join several by 'all' or 'any'"
        )
    ((name, given),) = condition.items()
    return name, given


def _compared(name: str) -> Callable[[Any, Mapping[str, Any]], bool]:
    def compare(given: Any, scope: Mapping[str, Any]) -> bool:
        one, other = filled_in(given, scope)
        try:
            return bool(_COMPARISONS[name](one, other))
        except TypeError:
            raise WrongType(f"{name!r} cannot be said of {shown(one)} and {shown(other)}") from None

    return compare


_COMPARISONS: Final[dict[str, Callable[[Any, Any], object]]] = {
    "equals": lambda one, other: one == other,
    "above": lambda one, other: one > other,
    "below": lambda one, other: one < other,
    "in": lambda one, other: one in other,
}
_OPERATORS: Final[dict[str, Callable[[Any, Mapping[str, Any]], bool]]] = {
    "not": lambda given, scope: not holds(given, scope),
    "all": lambda given, scope: all(holds(part, scope) for part in given),
    "any": lambda given, scope: any(holds(part, scope) for part in given),
    **{name: _compared(name) for name in _COMPARISONS},
}


def _marked(value: Any, mark: str) -> Iterator[Any]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            if one.keys() == {mark}:
                yield one[mark]
            else:
                waiting += one.values()
        elif isinstance(one, list | tuple):
            waiting += one


def _text(template: Any, scope: Mapping[str, Any]) -> str:
    require_template(template)
    environment, trouble = _environment()
    try:
        return str(environment.from_string(template).render(scope))
    except trouble as error:
        raise InvalidInput(f"the template {template!r} cannot be filled in: {error}") from error


def _environment() -> tuple[Any, type[Exception]]:
    sandbox = require_extra("jinja2.sandbox", "templates", "a text template")
    jinja2 = require_extra("jinja2", "templates", "a text template")
    return sandbox.ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined), jinja2.TemplateError
