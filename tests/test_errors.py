"""The error tree: every class where its docstring draws it."""

import inspect

import pytest

import eplb
from eplb import errors

TREE = {
    "EplbError": (Exception,),
    "InputError": (errors.EplbError, ValueError),
    "DispatchError": (errors.InputError,),
    "LoadsError": (errors.InputError,),
    "TopologyError": (errors.InputError,),
    "PlacementError": (errors.InputError,),
    "InfeasibleError": (errors.InputError,),
    "OptionError": (errors.InputError,),
    "RecordingError": (errors.InputError,),
    "FileFormatError": (errors.InputError,),
    "MigrationError": (errors.EplbError, RuntimeError),
    "MigrationInDoubt": (errors.MigrationError,),
    "MissingDependencyError": (errors.EplbError, ImportError),
}


def classes_of_the_module():
    return {name: kind for name, kind in vars(errors).items() if inspect.isclass(kind)}


def parents_drawn(docstring):
    """Return the parent of each class in the tree that `docstring` draws."""
    above, parents = [], {}
    for line in docstring.splitlines():
        name, column = line.lstrip(" │├└─").split(" ")[0], len(line) - len(line.lstrip(" │├└─"))
        if name in TREE:
            above = [entry for entry in above if entry[0] < column]
            parents[name] = above[-1][1] if above else None
            above.append((column, name))
    return parents


def test_the_tree_holds_these_classes_and_no_other():
    """Each class has the parents that callers may catch."""
    assert {name: kind.__bases__ for name, kind in classes_of_the_module().items()} == TREE


def test_the_docstring_draws_the_tree():
    """The picture in the module docstring names every class below its parent."""
    assert parents_drawn(errors.__doc__) == {
        name: next((base.__name__ for base in bases if base.__name__ in TREE), None) for name, bases in TREE.items()
    }


@pytest.mark.parametrize("name", TREE)
def test_every_error_is_public_and_says_what_it_means(name):
    """Each class is a name of the package and has a sentence of its own."""
    kind = getattr(eplb, name)
    assert kind is getattr(errors, name)
    assert kind.__doc__.endswith(".")


def test_callers_that_catch_value_error_catch_bad_input():
    """An input error is a `ValueError`, as numpy and torch raise."""
    with pytest.raises(ValueError, match=r"num_ranks: expected an integer >= 1, got 0") as caught:
        eplb.Topology(num_ranks=0, slots_per_rank=1)
    assert isinstance(caught.value, eplb.EplbError)


def test_a_missing_dependency_is_no_input_error():
    """A missing extra is not the caller's input, and must not be caught with it."""
    assert not issubclass(errors.MissingDependencyError, ValueError)
