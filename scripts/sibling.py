"""Loads the scripts beside this one, which have no suffix: they start, ask and end servers in the same way."""

import importlib.machinery
import importlib.util
import os
import sys

sys.dont_write_bytecode = True


def load(name):
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
    loader = importlib.machinery.SourceFileLoader(name, path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module
