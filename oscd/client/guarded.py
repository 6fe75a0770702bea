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
    "what a shell does": "ENV IFS CDPATH BASH BASH_* BASHOPTS SHELLOPTS PS0 PS1 PS2 PS3 PS4 PROMPT* RPROMPT FPATH "
    "ZDOTDIR NULLCMD READNULLCMD GLOBIGNORE MAIL* HIST* INPUTRC POSIXLY_CORRECT "
    # Some shells evaluate what is assigned to these as arithmetic, which can hold a command; others are read-only.
    "RANDOM SRANDOM SECONDS LINENO OPTIND OPTARG OPTERR UID EUID PPID GID EGID GROUPS BASHPID DIRSTACK FUNCNAME _",
    "where a program finds its own configuration": "HOME XDG_* SHELL TERMINFO TERMINFO_DIRS TERMCAP",
    "which program another one starts": "EDITOR VISUAL FCEDIT PAGER MANPAGER LESS LESSOPEN LESSCLOSE BROWSER "
    "SSH_* SUDO_* GIT_* CVS_RSH RSYNC_RSH MAKEFLAGS MAKEFILES TAR_OPTIONS VIMINIT EXINIT",
    "what an interpreter runs": "PYTHON* NODE_OPTIONS NODE_PATH NODE_REPL_* NPM_CONFIG_* PERL5* PERLLIB PERL_* RUBY* "
    "GEM_HOME GEM_PATH BUNDLE_* JAVA_TOOL_OPTIONS _JAVA_OPTIONS JDK_JAVA_OPTIONS CLASSPATH LUA_* PHPRC "
    "PHP_INI_SCAN_DIR DOTNET_STARTUP_HOOKS DOTNET_ADDITIONAL_DEPS CORECLR_* COR_* ERL_* ELIXIR_ERL_OPTIONS "
    "TCLLIBPATH GUILE_* JULIA_* R_PROFILE* R_ENVIRON* R_LIBS* AWKPATH AWKLIBPATH GCC_EXEC_PREFIX COMPILER_PATH",
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
