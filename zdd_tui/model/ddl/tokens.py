"""PostgreSQL's lexical rules, as far as we need them to cut and to guard text that a plan brings.

Rules: PostgreSQL documentation, "Lexical Structure", with ``standard_conforming_strings`` on.
"""

import re
from collections.abc import Iterator

_TOKEN = re.compile(
    r"""
    (?P<comment>--[^\n]*|/\*)
  | (?P<escaped>\b(?:[eE]|[uU]&)'|[uU]&")
  | (?P<string>'(?:[^']|'')*')
  | (?P<name>"(?:[^"]|"")*")
  | (?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][\w\x80-\U0010ffff]*)?\$)
  | (?P<parameter>\$\d+)
  | (?P<word>[A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]*)
  | (?P<open>[(\[])
  | (?P<close>[)\]])
  | (?P<semicolon>;)
  | (?P<unclosed>['"])
    """,
    re.VERBOSE,
)
_FORBIDDEN_TOKENS = {
    "comment": "a comment",
    "escaped": "an escape string (E'' or U&'')",
    "dollar": "a dollar-quoted string",
    "parameter": "a parameter such as $1",
    "unclosed": "a quotation mark that is never closed",
}


def tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """Kind, text and offset of what matters here; operators, numbers and blanks are passed over."""
    position = 0
    while match := _TOKEN.search(text, position):
        yield match.lastgroup or "", match[0], match.start()
        position = match.end()


def unsafe_token(text: str, *, statements: bool = False) -> str | None:
    """Why this text could mean something else to the server than to us, or None when it cannot.

    Escape strings, dollar quotes, parameters, comments and unbalanced brackets are refused as a whole:
    they are what text could use to leave the parentheses that it is put in.
    """
    if "\0" in text:
        return "it holds a NUL"
    depth: list[str] = []
    for kind, lexeme, _ in tokens(text):
        if kind in _FORBIDDEN_TOKENS:
            return f"it holds {_FORBIDDEN_TOKENS[kind]}"
        if kind == "semicolon" and (not statements or depth):
            return "it holds a semicolon"
        if kind == "open":
            depth.append(lexeme)
        elif kind == "close" and (not depth or depth.pop() + lexeme not in ("()", "[]")):
            return f"it closes a bracket that it did not open: {lexeme}"
    return f"it opens a bracket that it does not close: {depth[-1]}" if depth else None


def split_statements(text: str) -> tuple[str, ...]:
    """The statements of a script, without their semicolons. The text must be free of :func:`unsafe_token`."""
    statements, start = [], 0
    for kind, _, offset in tokens(text):
        if kind == "semicolon":
            statements.append(text[start:offset])
            start = offset + 1
    statements.append(text[start:])
    return tuple(stripped for statement in statements if (stripped := statement.strip()))


def called_functions(expression: str) -> tuple[str, ...]:
    """Names, folded as the server folds them, that stand before an opening parenthesis."""
    names, previous, end = [], "", 0
    for kind, lexeme, offset in tokens(expression):
        if lexeme == "(" and previous and not expression[end:offset].strip():
            names.append(previous)
        previous = lexeme.lower() if kind == "word" else lexeme[1:-1].replace('""', '"') if kind == "name" else ""
        end = offset + len(lexeme)
    return tuple(dict.fromkeys(names))


def dollar_quoted(body: str) -> str:
    """``body`` between dollar quotes whose tag does not occur in it."""
    tag, number = "$zdd$", 0
    while tag in body:
        number += 1
        tag = f"$zdd{number}$"
    return f"{tag}{body}{tag}"
