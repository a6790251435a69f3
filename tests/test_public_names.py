"""
The public names and their signatures, as `public_names.txt` has them.

`python tests/test_public_names.py --write` writes that file; its diff is the change of the public interface.
"""

import importlib
import inspect
import sys
from difflib import unified_diff
from importlib.util import find_spec
from pathlib import Path

import xarray

import ndzarr
from ndzarr._batches.load import BatchAccessor
from ndzarr.targets.accessor import SourceTargets, Targets

FILE = Path(__file__).with_name("public_names.txt")
TORCH = ["ndzarr.torch"] if find_spec("torch") else []
PLAIN = ("adapters", "categories", "errors", "ndsampler_compat", "toydata", "viz")
MODULES = ["ndzarr", *sorted([f"ndzarr.{name}" for name in PLAIN] + TORCH)]
ATTRIBUTES = {
    "CocoSampler.targets": Targets,
    "Sampler.targets": SourceTargets,
    "xarray.Dataset.ndzarr of a sample": type(xarray.Dataset().ndzarr),
    "xarray.Dataset.ndzarr of a batch": BatchAccessor,
}
OPERATORS = {f"__{name}__" for name in ("call", "contains", "enter", "getitem", "getitems", "iter", "len")}
WIDTH = 100


class Annotation(str):
    """An annotation as it stands in the source: Python 3.14 quotes it no longer."""

    __repr__ = str.__str__


def signature(function):
    """Return the parameters and the returned type of a function, one parameter a line if they are long."""
    found = inspect.signature(function)
    text = {name: Annotation(p.annotation) for name, p in found.parameters.items() if isinstance(p.annotation, str)}
    parameters = [p.replace(annotation=text.get(name, p.annotation)) for name, p in found.parameters.items()]
    line = str(found.replace(parameters=parameters, return_annotation=inspect.Signature.empty))
    after = "" if found.return_annotation is inspect.Signature.empty else f" -> {found.return_annotation}"
    if len(line + after) <= WIDTH:
        return line + after
    kinds = [p.kind for p in parameters]
    parts = [str(p) for p in parameters]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        parts.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    return "(\n" + "".join(f"        {part},\n" for part in parts) + f"    ){after}"


def module_names(module):
    """Return the names that a module offers: its `__all__`, else what it defines."""
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    return sorted(name for name in getattr(module, "__all__", own) if not name.startswith("_"))


def members(cls, known):
    """Yield a line for each public member of a class that its public bases and other packages do not have."""
    ours = [c for c in cls.__mro__ if c.__module__.startswith("ndzarr")]
    inherited = [c for c in ours[1:] if c in known]
    names = {name for c in ours for name in (*vars(c), *inspect.get_annotations(c))}
    for name in sorted(names):
        value = inspect.getattr_static(cls, name, None)
        if name.startswith("_") and name not in OPERATORS:
            continue
        if any(inspect.getattr_static(c, name, None) is value for c in inherited):
            continue
        function = getattr(value, "__func__", value)
        if inspect.isroutine(function) and not inspect.ismethoddescriptor(function):
            yield f"    {name}{signature(function)}"
        else:
            yield f"    {name}"


def sections():
    """Return the interface: the lines of each module and class."""
    out = {"dir(ndzarr)": [f"    {name}" for name in dir(ndzarr)]}
    classes = {}
    for path in MODULES:
        module = importlib.import_module(path)
        out[path] = []
        for name in module_names(module):
            value = getattr(module, name)
            if not inspect.isclass(value):
                out[path].append(f"    {name}{signature(value) if callable(value) else ''}")
            elif issubclass(value, Exception):
                out[path].append(f"    {name}({', '.join(base.__name__ for base in value.__bases__)})")
            else:
                classes[f"{path}.{name}"] = value
    for name, cls in (classes | ATTRIBUTES).items():
        made = "" if name in ATTRIBUTES else signature(cls).replace("\n    ", "\n").removesuffix(" -> None")
        out[name + made] = list(members(cls, set(classes.values())))
    return out


def text():
    """Return the text of the file."""
    return "\n".join("\n".join([title, *lines, ""]) for title, lines in sections().items())


def test_public_names_are_those_of_the_file():
    wanted = FILE.read_text().split("\n\n")
    if not TORCH:
        wanted = [section for section in wanted if not section.startswith("ndzarr.torch")]
    difference = unified_diff("\n\n".join(wanted).splitlines(), text().splitlines(), "the file", "now", lineterm="")
    assert not (lines := list(difference)), "\n".join(lines)


if __name__ == "__main__":
    if "--write" in sys.argv:
        FILE.write_text(text())
    print(text(), end="")
