"""JSON bodies in: only what can be stored and written back unchanged.

Owns: what oscd accepts as JSON beyond its grammar (integers of 64 bits, finite doubles, whole Unicode, 64
levels), and the words for what it does not. Must not: know a field, a model or HTTP, or repeat content in an
error.

orjson alone is not enough: it turns integers beyond 64 bits into floats without a word, reads 1024 levels but
writes 254, and does not tell malformed from unacceptable. Two cheap looks at the bytes find every body that
could hold such a thing; the careful reader, several times slower, sees only those and what orjson refused.
"""

from __future__ import annotations

import json
import math
from itertools import accumulate
from typing import Any, Final

import orjson

from oscd.errors import BadRequest, Invalid, RequestRefused

MAX_NESTING: Final = 64
"""Levels a stored value may have: a scalar has none, `[]` one, `[[]]` two."""

BODY_NESTING: Final = MAX_NESTING + 1
"""Levels a body may have: those of the value, and the request object around it."""

LEAST_INTEGER: Final = -(2**63)
GREATEST_INTEGER: Final = 2**64 - 1

# Both bounds have 20. Longer runs never reach int(), which takes quadratic time over them.
_MOST_INTEGER_CHARACTERS: Final = 20
# The shortest integer beyond 64 bits is -9223372036854775809. A search for it by a regular expression took 30
# times as long as this translation on a body of runs just too short.
_SUSPICIOUS_DIGITS: Final = b"0" * 19
_DIGITS_AS_ZERO: Final = bytes.maketrans(b"123456789", b"000000000")
_STEPS: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_STRUCTURE: Final = bytes(set(range(256)) - set(b'"[]{}'))


def parse(body: bytes) -> Any:  # noqa: ANN401 - whatever JSON can say
    """Read a JSON body; where a name comes twice in an object, the last one wins.

    Whatever is returned, `orjson.dumps` writes and `orjson.loads` reads back equal.

    Raises:
        BadRequest: empty, not UTF-8 or not JSON (NaN and Infinity are not). Says line and column.
        Invalid: an integer beyond -2^63 … 2^64-1, a number too large for a double, half a surrogate pair, or
            more than `BODY_NESTING` levels (beyond those nothing is read, so it may be malformed as well).
    """
    if not body:
        raise BadRequest("The body is empty; it must be JSON.")
    if body.count(b"[") + body.count(b"{") > BODY_NESTING and _nesting(body) > BODY_NESTING:
        raise Invalid(f"The body is nested too deeply; a value may have {MAX_NESTING} levels.")
    if _SUSPICIOUS_DIGITS not in body.translate(_DIGITS_AS_ZERO):
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            pass  # the careful reader finds out what kind of wrong it is
    return _read_carefully(body)


def _nesting(body: bytes) -> int:
    """Count the levels without reading the JSON, so that no reader can recurse too deeply on it."""
    # Without escaped backslashes and quotes, a string begins or ends at each quote that is left. Taking two
    # neighbouring quotes away changes for no bracket whether it stands in a string, and spares most pieces.
    bare = body.replace(rb"\\", b"").replace(rb"\"", b"").translate(None, _NO_STRUCTURE).replace(b'""', b"")
    brackets = b"".join(bare.split(b'"')[::2])
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0)


def _read_carefully(body: bytes) -> Any:  # noqa: ANN401 - as above
    # Raised after the handlers: the library's exceptions hold the body, and would be the refusal's context.
    refusal: RequestRefused
    try:
        value = json.loads(
            body.decode(), parse_int=_integer, parse_float=_double, parse_constant=_refuse_constant
        )
        orjson.dumps(value)
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        refusal = BadRequest(f"The body is not valid UTF-8 (line {line}, byte {error.start}).")
    except json.JSONDecodeError as error:
        refusal = BadRequest(f"The body is not valid JSON (line {error.lineno}, column {error.colno}).")
    except orjson.JSONEncodeError:
        # Integers, doubles and nesting were looked at on the way in, so it is text that cannot be written.
        refusal = Invalid("The body has half a surrogate pair in a string, which is no character.")
    else:
        return value
    raise refusal


def _integer(digits: str) -> int:
    if len(digits) <= _MOST_INTEGER_CHARACTERS:
        number = int(digits)
        if LEAST_INTEGER <= number <= GREATEST_INTEGER:
            return number
    raise Invalid("The body has an integer beyond 64 bits; send it as a string.")


def _double(digits: str) -> float:
    number = float(digits)
    if math.isfinite(number):
        return number
    raise Invalid("The body has a number too large for a double; send it as a string.")


def _refuse_constant(name: str) -> None:
    raise BadRequest(f"The body is not valid JSON: it has no {name}.")
