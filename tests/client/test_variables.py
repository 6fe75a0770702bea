"""Entries as variables: their names, what is refused, and that nothing is left out in silence."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oscd.client.errors import UsageRefused
from oscd.client.variables import NAME, Naming, text_of, value_of, variables

GUARDED = (
    "PATH LD_PRELOAD LD_LIBRARY_PATH DYLD_INSERT_LIBRARIES PYTHONPATH PYTHONSTARTUP NODE_OPTIONS NODE_PATH BASH_ENV "
    "ENV IFS PS4 PROMPT_COMMAND SHELLOPTS BASH_FUNC_LS PERL5OPT PERL5LIB RUBYOPT RUBYLIB JAVA_TOOL_OPTIONS "
    "_JAVA_OPTIONS JDK_JAVA_OPTIONS GIT_SSH_COMMAND GCONV_PATH LOCPATH RANDOM MAILPATH HOME "
    "GNUMAKEFLAGS GOFLAGS CARGO_BUILD_RUSTC KUBECONFIG AWS_PAGER MAVEN_OPTS SSLKEYLOGFILE HISTFILE MODULE_PATH"
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("prefix", "key", "name"),
    [
        ("", "database/password", "DATABASE_PASSWORD"),
        ("database/", "database/password", "PASSWORD"),
        ("database", "database/password", "PASSWORD"),
        ("", "feature/dark-mode.v2", "FEATURE_DARK_MODE_V2"),
        ("", "AlreadyMixed_case", "ALREADYMIXED_CASE"),
    ],
)
def test_keys_become_names(prefix: str, key: str, name: str) -> None:
    """A key is written in capitals, its separators as underscores, without the prefix."""
    assert Naming(prefix).name_of(key) == name


@pytest.mark.parametrize(
    "key", ["3scale", "caf\u00e9", "stra\u00dfe", "a=b", "database/", "a\u2028b", "a$b", "\u0131d"]
)
def test_a_key_without_a_name_is_refused(key: str) -> None:
    """What gives no name that a shell can set is refused, naming the key; no letter is replaced by others."""
    with pytest.raises(UsageRefused) as caught:
        Naming("database/").name_of(key)
    assert repr(key) in str(caught.value)


@pytest.mark.parametrize("name", GUARDED.split())
def test_a_guarded_name_needs_to_be_allowed(name: str) -> None:
    """What would choose other code is refused, naming the key and the option; named there it is set."""
    with pytest.raises(UsageRefused, match=f"--allow {name}") as caught:
        variables([(name.lower(), "x")], Naming())
    assert repr(name.lower()) in str(caught.value)
    (allowed,) = variables([(name.lower(), "x")], Naming(allowed={name}))
    assert allowed.name == name


@pytest.mark.parametrize("key", ["mail/host", "mailer", "history/days", "prompt/text", "ssl/key"])
def test_what_only_looks_guarded_is_not(key: str) -> None:
    """Common names of configuration need no option, though a guarded one begins alike."""
    assert variables([(key, "x")], Naming())


def test_a_guarded_name_is_seen_behind_the_prefix() -> None:
    """What counts is the name that would be set, not the key."""
    with pytest.raises(UsageRefused, match="--allow LD_PRELOAD"):
        variables([("app/ld/preload", "x")], Naming("app/"))
    assert Naming().name_of("app/ld/preload") == "APP_LD_PRELOAD"


@pytest.mark.parametrize("key", ["osc/api-key", "osc_user_key_file", "osc_"])
def test_no_entry_sets_a_variable_of_oscd(key: str) -> None:
    """Not even one that is allowed."""
    with pytest.raises(UsageRefused, match="oscd itself"):
        Naming(allowed={"OSC_API_KEY", "OSC_USER_KEY_FILE", "OSC_"}).name_of(key)


def test_two_keys_of_one_name_are_refused() -> None:
    """Both are named; neither wins."""
    with pytest.raises(UsageRefused, match="'a/b' and 'a-b' would both be A_B"):
        variables([("a/b", 1), ("c", 2), ("a-b", 3)], Naming())


def test_a_nul_is_refused_without_the_value() -> None:
    """No variable can hold one; the refusal names the key and repeats nothing."""
    with pytest.raises(UsageRefused, match="'a/b' holds a NUL") as caught:
        variables([("a/b", "s3cret\0")], Naming())
    assert "s3cret" not in str(caught.value)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=12))
def test_every_name_can_be_set(key: str) -> None:
    """A key is refused or gives a name that a shell can set and that is not guarded."""
    try:
        name = Naming().name_of(key)
    except UsageRefused:
        return
    assert NAME.fullmatch(name)
    assert not name.startswith(("OSC_", "LD_"))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(JSON)
def test_a_text_that_did_not_change_is_the_value_it_was(value: object) -> None:
    """Reading the text of a value beside that value gives it back, whatever its kind."""
    assert json.dumps(value_of(text_of(value), value)) == json.dumps(value)


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("81", 80, 81),
        ("82", "80", "82"),
        ("off", True, "off"),
        ('"x"', 1, '"x"'),
        ("[1]", {}, [1]),
        ('{"a":1,"a":2}', {}, '{"a":1,"a":2}'),
    ],
    ids=["number", "text", "no truth", "no number", "list", "twice"],
)
def test_a_changed_text_keeps_its_kind(text: str, before: object, after: object) -> None:
    """Text stays text; what was a number, a truth, a list or a mapping is one where it can be read as one."""
    assert value_of(text, before) == after


def test_a_variable_does_not_show_its_text() -> None:
    """Its repr, which a traceback would print, holds no value."""
    (variable,) = variables([("a", "s3cret")], Naming())
    assert "s3cret" not in repr(variable)
