"""Writes the reference, docs/reference/*.md, from the docstrings and signatures of the library.

::

    python docs/build_reference.py

A test fails when the pages differ from what this makes. It needs nothing but the library and what that stands on.

Longer than other modules: the three kinds of pages share the way in which signatures and docstrings become Markdown.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final, TypeGuard, get_args, get_origin

from attrs import NOTHING
from typer import Typer
from typer.models import CommandInfo

from cortical.store import Store

OUT: Final = Path(__file__).parent / "reference"
_MADE: Final = "<!-- Made by docs/build_reference.py from the docstrings: change those, then run it again. -->"
_SECTION: Final = re.compile(r"(Args|Raises):$")
_MOST_COLUMNS: Final = 100
_EMPTY: Final = inspect.Parameter.empty
_STORE_METHODS: Final = {name for name, value in vars(Store).items() if name[0] != "_" and inspect.isfunction(value)}

#: The parts of the core that users meet, in the order in which the page tells of them.
_CORE: Final = {
    "events": "Events",
    "status": "Status",
    "outcome": "Outcomes",
    "errors": "Errors",
    "budget": "Budgets",
    "policy": "Trying again",
    "conditions": "When to stop",
    "run": "Runs",
    "journal": "Journal",
    "codec": "Values",
    "ports": "Clock",
}
#: What users need of a part; of the others it is all that is public.
_CORE_NAMES: Final = {
    "budget": ["Budget"],
    "policy": ["Retry"],
    "journal": ["Journal"],
    "codec": ["register", "encode", "decode"],
    "ports": ["Clock"],
}


def build() -> dict[str, str]:
    """The text of each page, by its file name."""
    return {
        "reasoning.md": _package_page("cortical.reasoning"),
        "agents.md": _package_page("cortical.agents"),
        "control.md": _package_page("cortical.control"),
        "recovery.md": _package_page("cortical.recovery"),
        "monitoring.md": _package_page("cortical.monitoring"),
        "stages.md": _package_page("cortical.stages"),
        "loop-stages.md": _package_page("cortical.stages.loop"),
        "batch.md": _package_page("cortical.batch"),
        "store.md": _package_page("cortical.store"),
        "core.md": _core_page(),
        "testing.md": _package_page("cortical.testing"),
        "cli.md": _command_page(),
    }


def main() -> None:
    """Write the pages."""
    OUT.mkdir(exist_ok=True)
    for name, text in build().items():
        (OUT / name).write_text(text, encoding="utf-8")


# Pages


def _package_page(name: str) -> str:
    package = importlib.import_module(name)
    named = {public: getattr(package, public) for public in package.__all__}
    lines = [f"# {name}", "", _MADE, "", *_prose(inspect.getdoc(package)), "", *_import_block(name, named), ""]
    lines += ["| | |", "|---|---|"]
    for public, value in named.items():
        first = " ".join((_own_doc(value) if callable(value) else repr(value)).split("\n\n")[0].split()).removesuffix(
            "::"
        )
        lines.append(f"| [`{public}`](#{public.lower()}) | {_cell(_inline(first))} |")
    for public, value in named.items():
        lines += ["", *_entry(public, value, level=2, module=package)]
    return _joined(lines)


def _core_page() -> str:
    core = importlib.import_module("cortical.core")
    lines = [f"# {core.__name__}", "", _MADE, "", *_prose(inspect.getdoc(core))]
    for part, title in _CORE.items():
        module = importlib.import_module(f"cortical.core.{part}")
        names = _CORE_NAMES.get(part) or _public_names(module)
        lines += ["", f"## {title}", ""]
        lines += _import_block(module.__name__, names)
        lines += [] if part in _CORE_NAMES else ["", *_prose(inspect.getdoc(module))]
        for name in names:
            lines += ["", *_entry(name, getattr(module, name), level=3, module=module)]
    return _joined(lines)


def _command_page() -> str:
    from cortical.cli import app

    lines = ["# The command cortical", "", _MADE, "", str(app.info.help), "", "| | |", "|---|---|"]
    named = list(_commands(app))
    for name, command in named:
        summary = _own_doc(command.callback).split("\n\n")[0]
        lines.append(f"| [`{name}`](#cortical-{name.replace(' ', '-')}) | {_cell(summary)} |")
    for name, command in named:
        assert command.callback is not None
        lines += ["", f"## cortical {name}", "", *_prose(inspect.getdoc(command.callback)), ""]
        lines += ["| | |", "|---|---|"]
        lines += [f"| `{_cell(given)}` | {_cell(meaning)} |" for given, meaning in _options(command.callback)]
        lines += ["", f"For example `{str(command.epilog).removeprefix('Example: ')}`."]
    return _joined(lines)


def _joined(lines: Iterable[str]) -> str:
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


# Commands


def _commands(app: Typer) -> Iterator[tuple[str, CommandInfo]]:
    """All commands with what they are called, those of groups with the group's name before."""
    for command in app.registered_commands:
        yield str(command.name), command
    for group in app.registered_groups:
        assert group.typer_instance is not None
        for name, command in _commands(group.typer_instance):
            yield f"{group.name} {name}", command


def _options(callback: Callable[..., Any]) -> Iterator[tuple[str, str]]:
    """What a command takes: how it is written, and what it means."""
    for parameter in inspect.signature(callback, eval_str=True).parameters.values():
        kind, info, default = parameter.annotation, parameter.default, parameter.default
        if get_origin(kind) is Annotated:
            kind, info = get_args(kind)[:2]
        else:
            default = info.default
        # In an annotation typer takes the first name for the default.
        names = [name for name in (info.default, *(info.param_decls or ())) if str(name).startswith("-")]
        value = info.metavar or ("|".join(str(member.value) for member in kind) if _is_enum(kind) else "")
        yield f"{', '.join(names)} {value}".strip(), _meaning(info, default, option=bool(names))


def _meaning(info: Any, default: Any, *, option: bool) -> str:
    meaning = str(info.help)
    if default in (..., _EMPTY):
        return f"{meaning} Required." if option else meaning
    if default not in (None, False):
        meaning += f" `{default.value if isinstance(default, Enum) else default}` by default."
    return f"{meaning} `{info.envvar}` says it too." if info.envvar else meaning


# Entries


def _entry(name: str, value: Any, *, level: int, module: types.ModuleType) -> list[str]:
    lines = [f"{'#' * level} {name}", ""]
    if _is_enum(value):
        members = [f"| `{member.name}` | `{_shown(member.value)}` |" for member in value]
        return [*lines, *_prose(_own_doc(value)), "", "| member | value |", "|---|---|", *members]
    if isinstance(value, type) and issubclass(value, BaseException):
        return [*lines, *_error(value)]
    if isinstance(value, type):
        return [*lines, *_class(value, level)]
    if inspect.isfunction(value):
        return [*lines, *_signature_block(name, inspect.signature(value)), "", *_prose(_own_doc(value))]
    if isinstance(value, types.UnionType):
        return [*lines, f"Any of {', '.join(f'`{kind.__name__}`' for kind in get_args(value))}."]
    lines += _prose(_comment_above(inspect.getsource(module), name))
    if isinstance(value, dict):
        return [
            *lines,
            "",
            "| | |",
            "|---|---|",
            *(f"| `{_shown(key)}` | {_listed(to)} |" for key, to in value.items()),
        ]
    return [*lines, "", f"It is `{value!r}`."]


def _error(cls: type[BaseException]) -> list[str]:
    parents = " and ".join(f"`{base.__name__}`" for base in cls.__bases__)
    lines = [*_prose(_own_doc(cls)), "", f"Parents: {parents}."]
    if "__init__" in vars(cls):
        body = ast.walk(ast.parse(textwrap.dedent(inspect.getsource(vars(cls)["__init__"]))))
        targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
        facts = [f"`{target.attr}`" for target in targets if isinstance(target, ast.Attribute)]
        lines += ["", f"Attributes: {', '.join(facts)}."] if facts else []
    return lines


def _members(cls: type) -> dict[str, Any]:
    """What a class has of its own, and after it what it has from bases of this library."""
    found = dict(vars(cls))
    for base in cls.__mro__[1:]:
        if base.__module__.startswith("cortical."):
            found |= {name: value for name, value in vars(base).items() if name not in found}
    return found


def _class(cls: type, level: int) -> list[str]:
    is_record = hasattr(cls, "__attrs_attrs__") or hasattr(cls, "__struct_fields__")
    fields = _fields(cls) if is_record else []
    signature = inspect.Signature(fields) if is_record else _without_self(_members(cls).get("__init__", cls))
    lines = [] if _is_protocol(cls) else [*_signature_block(cls.__name__, signature), ""]
    lines += [*_prose(_own_doc(cls)), ""]
    source = inspect.getsource(cls)
    remarks = {field.name: _comment_above(source, f"    {field.name}") for field in fields}
    lines += [f"- `{name}`: {_inline(remark)}" for name, remark in remarks.items() if remark]
    members = {name: value for name, value in _members(cls).items() if name[0] != "_" and name not in remarks}
    rows = [row for name, value in members.items() if (row := _property_row(name, value))]
    lines += ["", "| property | type | |", "|---|---|---|", *rows] if rows else []
    if not _is_protocol(cls) and members.keys() >= _STORE_METHODS:
        lines += ["", "It has the methods of [Store](store.md#store)."]
        members = {name: value for name, value in members.items() if name not in _STORE_METHODS}
    for name, value in members.items():
        function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if inspect.isfunction(function):
            signature = inspect.signature(function) if isinstance(value, staticmethod) else _without_self(function)
            lines += ["", f"{'#' * (level + 1)} {cls.__name__}.{name}", "", *_signature_block(name, signature), ""]
            lines += _prose(_own_doc(function))
    return lines


def _fields(cls: type) -> list[inspect.Parameter]:
    """The public fields of a record, made with attrs or msgspec, as what its call takes."""
    by_name = {each.name for each in getattr(cls, "__attrs_attrs__", ()) if each.kw_only}
    kinds = {name: kind for base in reversed(cls.__mro__) for name, kind in inspect.get_annotations(base).items()}
    if hasattr(cls, "__attrs_attrs__"):
        defaults = {each.name: _EMPTY if each.default is NOTHING else each.default for each in cls.__attrs_attrs__}
    else:
        names, given = getattr(cls, "__struct_fields__", ()), getattr(cls, "__struct_defaults__", ())
        defaults = dict(zip(names, [_EMPTY] * (len(names) - len(given)) + list(given), strict=True))
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY if name in by_name else inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=default,
            annotation=kinds[name],
        )
        for name, default in defaults.items()
        if not name.startswith("_")
    ]


def _property_row(name: str, value: object) -> str:
    if isinstance(value, types.MemberDescriptorType):
        return f"| `{name}` | | |"
    if not isinstance(value, property) or value.fget is None:
        return ""
    kind = _annotation(inspect.get_annotations(value.fget).get("return", ""))
    return f"| `{name}` | `{_cell(kind)}` | {_cell(' '.join(_prose(_own_doc(value))))} |"


def _is_enum(value: object) -> TypeGuard[type[Enum]]:
    return isinstance(value, type) and issubclass(value, Enum)


def _is_protocol(cls: type) -> bool:
    return bool(getattr(cls, "_is_protocol", False))


def _own_doc(value: object) -> str:
    """The docstring as it was written: for a class not one that attrs would make, nor a parent's."""
    doc = vars(value).get("__doc__") if isinstance(value, type) else getattr(value, "__doc__", None)
    return inspect.cleandoc(doc or "")


def _public_names(module: types.ModuleType) -> list[str]:
    """What a module defines itself and does not hide, in order."""
    names = []
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.append(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(node.target.id)
    return [name for name in names if not name.startswith("_")]


def _comment_above(source: str, name: str) -> str:
    """The ``#:`` comment above the line that begins with `name`; empty when there is none."""
    found = re.search(rf"((?:^ *#: .*\n)+){name}\b", source, re.MULTILINE)
    return " ".join(line.strip().removeprefix("#: ") for line in found[1].splitlines()) if found else ""


# Signatures


def _import_block(module: str, names: Iterable[str]) -> list[str]:
    return ["```python", f"from {module} import (", *(f"    {name}," for name in names), ")", "```"]


def _without_self(function: Callable[..., Any]) -> inspect.Signature:
    signature = inspect.signature(function)
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def _signature_block(name: str, signature: inspect.Signature) -> list[str]:
    parts = list(_parameter_texts(list(signature.parameters.values())))
    returns = _annotation(signature.return_annotation)
    end = f" -> {returns}" if returns and not name[0].isupper() else ""
    line = f"{name}({', '.join(parts)}){end}"
    if len(line) > _MOST_COLUMNS:
        line = "\n".join([f"{name}(", *(f"    {part}," for part in parts), f"){end}"])
    return ["```text", line, "```"]


def _parameter_texts(parameters: Sequence[inspect.Parameter]) -> Iterator[str]:
    before: inspect.Parameter | None = None
    for each in parameters:
        if before is not None and before.kind is before.POSITIONAL_ONLY is not each.kind:
            yield "/"
        if each.kind is each.KEYWORD_ONLY and (before is None or before.kind < each.VAR_POSITIONAL):
            yield "*"
        stars = "*" if each.kind is each.VAR_POSITIONAL else "**" if each.kind is each.VAR_KEYWORD else ""
        kind = f": {_annotation(each.annotation)}" if _annotation(each.annotation) else ""
        default = "" if each.default is each.empty else f" = {_shown(each.default)}"
        yield f"{stars}{each.name}{kind}{default}"
        before = each


def _annotation(annotation: Any) -> str:
    """A type as it was written; empty when there is none, or one that nobody else can name."""
    if annotation is _EMPTY or str(annotation).startswith("_"):
        return ""
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


def _shown(value: Any) -> str:
    """A value as its reader would write it."""
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, type | types.FunctionType | types.ModuleType):
        return value.__name__
    if isinstance(value, types.BuiltinMethodType):
        owner = value.__self__
        return f"{owner.__name__ if inspect.ismodule(owner) else type(owner).__module__}.{value.__name__}"
    if isinstance(value, types.MappingProxyType):
        return "…"
    made_by = getattr(value, "factory", None)
    if made_by is not None:
        return repr(made_by()) if isinstance(made_by, type) else "…"
    return repr(value)


def _listed(value: Any) -> str:
    """A value in a table of values; of a set of enum members each, in the enum's order."""
    if not isinstance(value, frozenset):
        return f"`{_shown(value)}`"
    members = [member for kind in {type(member) for member in value} for member in kind if member in value]
    return ", ".join(f"`{member.name}`" for member in members) or "none"


# Prose


def _prose(doc: str | None) -> list[str]:
    """A docstring as Markdown: its code becomes blocks, its sections become lists."""
    lines: list[str] = []
    waiting = (doc or "").splitlines()
    while waiting:
        line = waiting.pop(0)
        section = _SECTION.match(line)
        if section:
            lines += ["", f"**{section[1]}:**", "", *_items(_indented(waiting)), ""]
        elif line.endswith("::"):
            before = line.removesuffix("::")
            lines += [f"{_inline(before)}:"] if before else []
            lines += ["", *_code_block(_indented(waiting)), ""]
        else:
            lines.append(_inline(line))
    return _joined(lines).splitlines()


def _indented(waiting: list[str]) -> str:
    """Take the indented lines that come next."""
    taken: list[str] = []
    while waiting and (not waiting[0].strip() or waiting[0].startswith(" ")):
        taken.append(waiting.pop(0))
    return textwrap.dedent("\n".join(taken)).strip("\n")


def _items(text: str) -> list[str]:
    """``name: what it is``, a list item each; the further lines of one are indented."""
    items: list[str] = []
    for line in filter(str.strip, text.splitlines()):
        if line.startswith(" ") and items:
            items[-1] += f" {line.strip()}"
        else:
            items.append(line)
    return [f"- {_item(item)}" for item in items]


def _item(item: str) -> str:
    names = re.match(r"(\w+(?:, \w+)*): ", item)
    if names is None:
        return _inline(item)
    return ", ".join(f"`{name}`" for name in names[1].split(", ")) + f": {_inline(item[names.end() :])}"


def _code_block(code: str) -> list[str]:
    try:
        parsed = ast.parse(code)
    except SyntaxError:
        return ["```text", code, "```"]
    if any(isinstance(node, ast.Call) and _is_ellipsis(node.args) for node in ast.walk(parsed)):
        return ["```text", code, "```"]  # a sketch, which nobody can run
    return ["```python", re.sub(r"(?<=\S) {3,}# ", "  # ", code), "```"]  # as the formatter wants comments


def _is_ellipsis(arguments: Sequence[ast.expr]) -> bool:
    return [ast.dump(argument) for argument in arguments] == [ast.dump(ast.Constant(...))]


def _inline(text: str) -> str:
    return text.replace("``", "`")


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split()))


if __name__ == "__main__":
    main()
