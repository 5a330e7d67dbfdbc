"""From the answers of a round to new weights: the strategies of Assay, and those of Flower run unmodified."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from assay.errors import FederationError
from assay.federated.strategies.base import Cohort, Strategy, Sums
from assay.federated.strategies.flower import Flower
from assay.recipes import Recipe


@dataclass(frozen=True, kw_only=True)
class RoundAnswers:
    """The accepted answers of a round."""

    cohort: Cohort
    update: Tensor | None
    """(k,) float64 sum of updates times their scale; None where single updates were asked for."""
    singles: Mapping[int, Tensor]
    """(k,) float64 update of each client, where they were asked for."""
    vectors: Mapping[str, Tensor]
    """(k,) float64 sums of the strategy's vectors."""
    scalars: Mapping[str, float]


class Rule(Protocol):
    """How answers become weights, with what the server keeps from round to round."""

    def sent(self) -> Mapping[str, Tensor]:
        """Returns the vectors that are sent with the weights."""
        ...

    def step(self, weights: Tensor, answers: RoundAnswers) -> Tensor:
        """Returns the new weights.

        Args:
            weights: (k,) float64 that the clients were sent.
            answers: of the round.

        Returns:
            (k,) float64.
        """
        ...

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns what ``restore`` needs: tensors by name, and the rest, JSON-able."""
        ...

    def restore(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Restores what ``state`` returned.

        Args:
            tensors: by name.
            about: the rest.
        """
        ...


def rule_of(strategy: Strategy, recipe: Recipe) -> Rule:
    """Returns the rule of a strategy at the start of a training.

    Args:
        strategy: of the recipe.
        recipe: gives Flower's strategies the local learning rate.

    Returns:
        The rule.
    """
    return FlowerRule(strategy, recipe) if isinstance(strategy, Flower) else StrategyRule(strategy)


class StrategyRule:
    """A strategy of Assay, and the state of its server.

    Args:
        strategy: frozen settings.
    """

    def __init__(self, strategy: Strategy) -> None:
        self._strategy, self._server = strategy, strategy.server()

    def sent(self) -> Mapping[str, Tensor]:
        return self._server.sent()

    def step(self, weights: Tensor, answers: RoundAnswers) -> Tensor:
        strategy, cohort = self._strategy, answers.cohort
        if strategy.needs_single_updates:
            change = strategy.combine(torch.stack([answers.singles[c.client] for c in cohort.contributions]), cohort)
        else:
            scales = [strategy.scale(contribution) for contribution in cohort.contributions]
            total = answers.update
            if total is None:  # of one client alone: not rounded to the scale of a sum
                (only,) = cohort.contributions
                total = answers.singles[only.client] * (scales[0] / strategy.divisor(only))
            change = strategy.combine_sum(Sums(changes=total, scales=sum(scales), scalars=answers.scalars), cohort)
        if answers.vectors:
            self._server.receive(answers.vectors, cohort)
        return self._server.step(weights, change, cohort)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self._server.state()

    def restore(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        self._server.restore(tensors, about)


class FlowerRule:
    """A strategy of Flower, which is shown the clients' weights as messages of its own kind.

    The runtime has trained and checked the clients before. Who takes part, and how many records each has, is the
    server's knowledge and not the clients'. Flower's strategy sees one array, ``weights``: the trainable parameters.

    Args:
        strategy: names Flower's class.
        recipe: gives the local learning rate.
    """

    def __init__(self, strategy: Flower, recipe: Recipe) -> None:
        everyone = {"fraction_train": 1.0, "fraction_evaluate": 0.0, "min_train_nodes": 1, "min_available_nodes": 1}
        self._name = strategy.strategy
        self._flower = strategy.build(recipe, **everyone)

    def sent(self) -> Mapping[str, Tensor]:
        return {}

    def step(self, weights: Tensor, answers: RoundAnswers) -> Tensor:
        from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
        from flwr.supercore.task_identity import TaskIdentity

        # Flower stamps messages with the identity of a task of its own runtime, which we replace.
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 0, 0, 0
        cohort = answers.cohort
        nodes: Any = SimpleNamespace(get_node_ids=lambda: [each.client for each in cohort.contributions])
        if hasattr(self._flower, "current_arrays"):
            # FedAvgM keeps its own copy, which is not rounded to the type of the network as the sent weights are.
            self._flower.current_arrays = None
        self._flower.configure_train(cohort.number, _arrays(weights), ConfigRecord(), nodes)
        replies = []
        for each in cohort.contributions:
            metrics: dict[str, Any] = {"num-examples": each.records}
            if each.loss is not None:
                metrics["train_loss"] = each.loss
            content = {"arrays": _arrays(weights + answers.singles[each.client]), "metrics": MetricRecord(metrics)}
            replies.append(Message(RecordDict(content), dst_node_id=each.client, message_type="train"))
        try:
            arrays, _ = self._flower.aggregate_train(cohort.number, replies)
        except (ArithmeticError, ValueError, TypeError) as error:
            raise FederationError(f"Flower's {self._name} fails in round {cohort.number}: {error!r}") from error
        if arrays is None:
            raise FederationError(
                f"Flower's {self._name} gives no weights in round {cohort.number} of {len(replies)} clients"
            )
        return torch.from_numpy(np.array(arrays["weights"].numpy())).double()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns the arrays and the numbers that Flower's object holds, by attribute."""
        tensors: dict[str, Tensor] = {}
        about: dict[str, Any] = {}
        for name, value in vars(self._flower).items():
            kind = "mapping" if isinstance(value, dict) else "list" if isinstance(value, list) else "array"
            arrays = value if kind == "mapping" else dict(enumerate(value)) if kind == "list" else {"": value}
            if arrays and all(isinstance(each, np.ndarray) for each in arrays.values()):
                tensors |= {f"{name}/{key}": torch.from_numpy(np.array(each)) for key, each in arrays.items()}
                about[name] = kind
            elif isinstance(value, int | float | str | bool):
                about[name] = {"value": value}
        return tensors, about

    def restore(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        for name, kind in about.items():
            held = {
                key.removeprefix(f"{name}/"): tensor.numpy()
                for key, tensor in tensors.items()
                if key.startswith(f"{name}/")
            }
            if isinstance(kind, dict):
                value = kind["value"]
            elif kind == "list":
                value = [held[str(place)] for place in range(len(held))]
            else:
                value = held if kind == "mapping" else held[""]
            setattr(self._flower, name, value)


def _arrays(weights: Tensor) -> Any:
    from flwr.app import Array, ArrayRecord

    return ArrayRecord({"weights": Array(weights.numpy())})
