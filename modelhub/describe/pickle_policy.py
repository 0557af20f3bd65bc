"""Which imports of a pickle are dangerous.

Loading a pickle calls what it imports. Dangerous is what runs programs or code, touches files or
the network, loads further code or pickles, or gets at any of these by name:

- everything in the modules of ``MODULES`` (``os``, ``subprocess``, ``socket``, ``importlib``, …);
- of harmless modules what ``NAMES`` lists (``builtins.eval``, ``torch.hub.load``, …);
- what is reached through a harmless module (``random._os.system``), by the modules in ``INNER``;
- what hides its name: one that is computed, or a number in the registry of extensions.

It is a list of what is known, so what is not on it is not thereby safe; and real models do use some
of it (``builtins.getattr``).
"""

from __future__ import annotations

HIDDEN = "(hidden)"
"""In place of a name that cannot be told without running the pickle."""

_PROGRAMS_AND_SYSTEM = """
builtins ctypes importlib nt os posix pty runpy shutil socket subprocess sys
"""

_OTHERS = """
_posixsubprocess _thread _winapi asyncio commands concurrent multiprocessing popen2 sched signal
threading
aiohttp fileinput ftplib http httplib mmap paramiko requests smtplib ssl telnetlib tempfile urllib
urllib2 urllib3 webbrowser winreg xmlrpc zipfile
_ctypes atexit bdb cProfile cffi code codeop distutils doctest ensurepip gc idlelib imp inspect
lib2to3 pdb pip pkgutil profile pydoc setuptools timeit trace venv zipimport
_pickle cPickle cloudpickle dill marshal pickle shelve
"""
"""Processes and threads; files and the network; code; pickles."""

_BUILTINS = """
__import__ apply breakpoint compile delattr eval exec execfile file getattr globals input locals
open setattr vars
"""

_FILES = "FileIO open open_code"

INNER = frozenset(_PROGRAMS_AND_SYSTEM.split())

MODULES = (INNER | frozenset(_OTHERS.split())) - {"builtins"}

NAMES = {
    module: frozenset(names.split())
    for module, names in {
        "builtins": _BUILTINS,
        "__builtin__": _BUILTINS,
        "_io": _FILES,
        "io": _FILES,
        "_operator": "attrgetter methodcaller",
        "operator": "attrgetter methodcaller",
        "types": "CodeType FunctionType LambdaType MethodType",
        "joblib": "load",
        "logging": "FileHandler dictConfig fileConfig",
        "numpy": "fromfile load loadtxt memmap runstring save savetxt",
        "pandas": "eval read_pickle",
        "torch": "_load_from_bytes download_url_to_file load load_url save",
    }.items()
}
"""By the module's first name, what is dangerous anywhere within it."""


def is_dangerous(module: str, name: str) -> bool:
    """Whether a pickle may do harm with what it imports."""
    if HIDDEN in (module, name):
        return True
    *path, last = f"{module}.{name}".split(".")
    if path[0] in MODULES or any(part.lstrip("_") in INNER for part in path[1:]):
        return True
    return last in NAMES.get(path[0], ())
