"""A sweep that is ready to begin: its study, its data, its search and its goals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assay.data.base import Dataset
from assay.data.splits import refuse_beyond_official
from assay.errors import SpecError
from assay.registry import unknown_name
from assay.study.halving import Halving, Jobs, Plain, Rungs, refuse_unhalvable
from assay.study.search.base import Search
from assay.study.search.grid import Grid
from assay.study.search.optuna import Optuna
from assay.study.search.random import Random
from assay.study.search.space import Axis, Values, axes_of
from assay.study.spec import Study
from assay.study.sweep import Sweep, base_of
from assay.study.sweep_goals import Goal, goals_named

SEARCHES = ("grid", "random", "optuna")
SCHEDULERS = ("none", "asha")
