"""The parser's reports in words that name the key."""

from __future__ import annotations

import pytest

from callbacks.cli.config_errors import error_message, readable

NESTED = """Parser key "model":
  Does not validate against any of the Union subtypes
  Subtypes: [<class 'LightningModule'>, <class 'NoneType'>]
  Errors:
    - Problem with given class_path 'tests.support.command_fakes.TinyModule':
        Parser key "policy":
          Problem with given class_path 'tests.support.command_fakes.TinyPolicy':
            Option 'pth' is not accepted
    - Expected a <class 'NoneType'>
  Given value type: <class 'dict'>
  Given value: {'class_path': 'TinyModule'}"""

TWO_KEYS = """Parser key "data":
  Errors:
    - Problem with given class_path 'tests.support.command_fakes.TinyData':
        Parser key "batches":
          Expected a <class 'int'>. Got value: x
        Parser key "train":
          Expected a <class 'str'>. Got value: 3"""

CALLABLE = (
    'Parser key "optimizer":\n  Type typing.Callable[[Iterable], Optimizer] expects a function or a callable class: '
    "Option 'lrr' is not accepted. Got value: Namespace(class_path='torch.optim.SGD', init_args=Namespace(lrr=1))"
)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            NESTED,
            "unknown key 'model.policy.pth' (tests.support.command_fakes.TinyPolicy has no such parameter); "
            "did you mean 'path'?",
        ),
        (
            TWO_KEYS,
            "'data.batches': Expected a <class 'int'>. Got value: x\n"
            "'data.train': Expected a <class 'str'>. Got value: 3",
        ),
        (
            CALLABLE,
            "unknown key 'optimizer.lrr' (torch.optim.SGD has no such parameter); did you mean 'lr'?",
        ),
        ("Subcommand 'fit' does not accept option 'trainr.x'", "unknown key 'trainr.x'; did you mean 'trainer'?"),
        ("Group 'shape' does not accept option 'widht'", "unknown key 'shape.widht'"),
        ("unrecognized arguments: --foo=3 --bar", "unknown key 'foo'"),
        (
            "the following arguments are required: fit.model, x",
            "missing 'model', 'x': give a value in a --config file or as a flag",
        ),
        (
            "Parser key \"model\":\n  Not a valid subclass of M\n  Expected a <class 'NoneType'>",
            "'model': Not a valid subclass of M; write `class_path: <Class>` and its `init_args:` under this key\n"
            "'model': Expected a <class 'NoneType'>",
        ),
        ("something else entirely", "something else entirely"),
        ("", ""),
    ],
)
def test_readable(message: str, expected: str) -> None:
    assert readable(message, ["trainer", "model"]) == expected


REFUSED = """Does not validate against any of the Union subtypes
Subtypes: [<class 'LightningModule'>, <class 'NoneType'>]
Errors:
  - beta is -1.0; give a positive number
  - Expected a <class 'NoneType'>
Given value type: <class 'Namespace'>
Given value: Namespace(class_path='VistaDPO', init_args=Namespace(beta=-1.0))"""


def test_of_a_class_that_refuses_its_settings_only_the_reason_is_told() -> None:
    assert error_message(ValueError(REFUSED)) == "beta is -1.0; give a positive number"
    assert error_message(ValueError("shards:\n  - a\n  - b\n")) == "shards:\n  - a\n  - b"


def test_class_names_are_suggested_from_what_was_imported() -> None:
    import callbacks.metrics.throughput  # noqa: F401

    message = 'Parser key "trainer.callbacks":\n  Expected a dot import path string: Thrughput'
    assert readable(message) == "'trainer.callbacks': no class is called 'Thrughput'; did you mean 'Throughput'?"
    message = 'Parser key "model.policy":\n  Expected a dot import path string: Throughput'
    assert "write 'Throughput' in full, callbacks.metrics.throughput.Throughput" in readable(message)
    message = 'Parser key "trainer.callbacks":\n  Expected a dot import path string: Zzz'
    assert readable(message).endswith("give its full path, package.module.Class")
