"""Owns which variables are more than configuration: by which a loader, a shell or an interpreter runs other code.

Who may write an entry is not thereby one who may choose what runs where it is read, so these are set only where they
are named. Must not know entries. The list cannot be complete; it holds what widespread programs obey on their own.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Final

OWN: Final = "OSC_*"
"""Where oscd keeps its own settings, the keys among them; never handed on and never set, whatever is allowed."""

GUARDED: Final[dict[str, str]] = {
    "which programs and libraries run": "PATH LD_* DYLD_* GCONV_PATH LOCPATH NLSPATH GLIBC_TUNABLES MALLOC_* "
    "OPENSSL_CONF OPENSSL_ENGINES OPENSSL_MODULES KRB5_CONFIG GIO_* GTK_MODULES GTK_PATH QT_PLUGIN_PATH",
    "what a shell does": "ENV IFS CDPATH BASH BASH_* BASHOPTS SHELLOPTS KSH* PS0 PS1 PS2 PS3 PS4 PROMPT PROMPT2 "
    "PROMPT3 PROMPT4 PROMPT_COMMAND PROMPT_DIRTRIM RPROMPT RPROMPT2 RPS1 RPS2 SPROMPT FPATH MODULE_PATH ZDOTDIR "
    "NULLCMD READNULLCMD GLOBIGNORE EXECIGNORE MAIL MAILCHECK MAILPATH HISTFILE HISTSIZE HISTFILESIZE "
    "HISTCONTROL HISTIGNORE HISTTIMEFORMAT HISTCMD HISTCHARS SAVEHIST INPUTRC POSIXLY_CORRECT "
    # Some shells evaluate what is assigned to these as arithmetic, which can hold a command; others are read-only.
    "RANDOM SRANDOM SECONDS LINENO OPTIND OPTARG OPTERR UID EUID PPID PGRP GID EGID USER_ID GROUPS BASHPID "
    "DIRSTACK DIRSTACKSIZE FUNCNAME FUNCNEST PIPESTATUS SHLVL COLUMNS LINES TMOUT EPOCHSECONDS EPOCHREALTIME "
    "ERRNO TTYIDLE KEYTIMEOUT LISTMAX LOGCHECK BAUD ARGC _",
    "where a program leaves the keys of its connections": "SSLKEYLOGFILE",
    "where a program finds its own configuration": "HOME XDG_* SHELL TERMINFO TERMINFO_DIRS TERMCAP HGRCPATH "
    "CURL_HOME PSQLRC KUBECONFIG AWS_CONFIG_FILE",
    "which program another one starts": "EDITOR VISUAL FCEDIT PAGER *_PAGER MANPAGER LESS LESSOPEN LESSCLOSE "
    "BROWSER SSH_* SUDO_* GIT_* CVS_RSH SVN_SSH RSYNC_RSH MAKEFLAGS GNUMAKEFLAGS MAKEFILES TAR_OPTIONS VIMINIT "
    "EXINIT GOFLAGS CARGO_* RUSTC_WRAPPER",
    "what an interpreter runs": "PYTHON* GUNICORN_CMD_ARGS NODE_OPTIONS NODE_PATH NODE_REPL_* BUN_OPTIONS "
    "NPM_CONFIG_* PERL5* PERLLIB PERL_* RUBY* GEM_HOME GEM_PATH BUNDLE_* JAVA_TOOL_OPTIONS _JAVA_OPTIONS "
    "JDK_JAVA_OPTIONS IBM_JAVA_OPTIONS MAVEN_OPTS JAVA_HOME CLASSPATH LUA_* PHPRC PHP_INI_SCAN_DIR "
    "DOTNET_STARTUP_HOOKS DOTNET_ADDITIONAL_DEPS ASPNETCORE_HOSTINGSTARTUPASSEMBLIES CORECLR_* COR_* ERL_* "
    "ELIXIR_ERL_OPTIONS TCLLIBPATH GUILE_* JULIA_* R_PROFILE* R_ENVIRON* R_LIBS* AWKPATH AWKLIBPATH "
    "CAML_LD_LIBRARY_PATH GCC_EXEC_PREFIX COMPILER_PATH",
}
"""What they choose → their patterns."""


def is_own(name: str) -> bool:
    """Whether it is a variable of oscd itself."""
    return fnmatchcase(name, OWN)


def why_guarded(name: str) -> str | None:
    """What a variable chooses beside configuration; None where it chooses nothing."""
    for what, patterns in GUARDED.items():
        if any(fnmatchcase(name, pattern) for pattern in patterns.split()):
            return what
    return None
