"""Functions with extensions from layers."""

from collections.abc import Callable
from typing import Any

from running import Functions

CODE = """
import os, sys, time

print("the function starts", time.monotonic())

def handler(event, context):
    if event and "exit" in event:
        sys.exit(3)
    if event and "sleep" in event:
        time.sleep(event["sleep"])
    return os.environ.get("AWS_EXECUTION_ENV")
"""
Layer = Callable[..., str]


def with_layers(functions: Functions, *layers: str, code: str = CODE, mode: str = "", **members: Any) -> str:
    variables = {"Environment": {"Variables": {"MODE": mode}}}
    return functions.create(code, Layers=list(layers), **{**variables, "Timeout": 5, **members})
