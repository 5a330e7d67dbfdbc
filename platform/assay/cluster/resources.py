"""What a worker reserves, what the nodes of a cluster offer, and whether the one can ever fit into the other."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from assay.errors import UserError

Node = Mapping[str, float]
"""Resources of a node by name, such as ``{"CPU": 8, "GPU": 1}``."""

_LEAST = 0.0001
"""The smallest share of a GPU that Ray reserves."""


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """CPUs and GPUs that a worker reserves."""

    cpus: int
    gpus: float = 0.0
    """A whole number, or a share of one GPU."""

    def __str__(self) -> str:
        cpus = "1 CPU" if self.cpus == 1 else f"{self.cpus} CPUs"
        return cpus if not self.gpus else f"{cpus} and {self.gpus:g} GPU" + ("s" if self.gpus > 1 else "")

    def fits(self, node: Node) -> int:
        """Returns how many such workers fit on a node; a share must lie on one GPU.

        Args:
            node: its resources.

        Returns:
            Their number.
        """
        by_cpu = int(node.get("CPU", 0.0) // self.cpus)
        if not self.gpus:
            return by_cpu
        gpus = int(node.get("GPU", 0.0))
        # 1 / 0.1 is a little below 10 for some shares.
        return min(by_cpu, int(gpus // self.gpus) if self.gpus >= 1 else gpus * int(1 / self.gpus + 1e-9))


@dataclass(frozen=True, kw_only=True)
class Asker:
    """What reserves resources, in the words of an error message, with the settings that decide how much."""

    who: str
    cpus: str
    """Setting that decides the CPUs."""
    fewer_cpus: str
    """What to do to reserve fewer CPUs."""
    gpus: str
    """Setting that decides the GPUs."""
    fewer_gpus: str
    """What to do to reserve fewer GPUs."""


TRIAL = Asker(
    who="a trial",
    cpus="threads",
    fewer_cpus="lower `threads` in the study",
    gpus="--gpus-per-trial",
    fewer_gpus="lower --gpus-per-trial",
)
"""A trial of a study or of a sweep."""
TRAINING_WORKER = Asker(
    who="a training worker",
    cpus="threads",
    fewer_cpus="lower `threads` in the study",
    gpus="--gpu",
    fewer_gpus="leave out --gpu",
)
"""One of the workers that share the batches of a training."""
REPLICA = Asker(
    who="a replica", cpus="threads", fewer_cpus="lower threads", gpus="gpus", fewer_gpus="lower gpus (0: on the CPU)"
)
"""A replica of a served model."""


def living_nodes() -> list[Node]:
    """Returns the resources of each node that is alive; ``ray.nodes`` keeps those that have died.

    Returns:
        Resources by name.
    """
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def is_alive(node: str) -> bool:
    """Returns whether a node is alive.

    Args:
        node: its id.

    Returns:
        False also for a node that is not known.
    """
    return any(one["NodeID"] == node and one["Alive"] for one in ray.nodes())


def node_types() -> list[Node] | None:
    """Returns the resources of a node of each type that the cluster's autoscaler may start.

    Returns:
        Resources by name; None where no autoscaler has said so.
    """
    state: Any = ray._private.state.state
    try:
        config = state.get_cluster_config()
    except Exception:  # through Ray Client, or in another version of Ray, it cannot be asked for
        return None
    groups = [] if config is None else list(config.node_group_configs)
    return [dict(group.resources) for group in groups if group.max_count != 0] or None


def gpu_share(gpus: float, workers: int) -> float:
    """Returns the share of a GPU for each worker: a whole one if there are enough, otherwise an equal fraction.

    The fraction is such that every worker fits on one device.

    Args:
        gpus: GPUs of the cluster.
        workers: number of workers.

    Returns:
        GPUs per worker; 0 without a GPU.
    """
    return 0.0 if gpus < 1 else 1.0 / math.ceil(workers / gpus)


def equal_share(nodes: Sequence[Node], *, workers: int | None, cpus: int) -> float:
    """Returns the share of a GPU by which the workers of a cluster's nodes with GPUs use all of these equally.

    Args:
        nodes: that are alive.
        workers: number of workers; by default as many as the CPUs of the nodes with GPUs allow.
        cpus: of each worker.

    Returns:
        GPUs per worker; 0 without a GPU.
    """
    with_gpu = [node for node in nodes if node.get("GPU", 0.0) >= 1]
    slots = sum(Reservation(cpus=cpus).fits(node) for node in with_gpu)
    return gpu_share(sum(node["GPU"] for node in with_gpu), max(workers or slots, 1))


def gpus_for(devices: Iterable[str], gpus: float | None) -> float | None:
    """Returns the GPUs that a worker reserves for trials: none where all of them are computed on the CPU.

    A worker that reserved one would make an autoscaler start a machine that nothing uses.

    Args:
        devices: of the trials, ``gpu`` or ``cpu``; see ``Cohort.device``.
        gpus: that were asked for; None for an equal share.

    Returns:
        What was asked for, or 0.
    """
    return 0.0 if set(devices) == {"cpu"} else gpus


def checked_gpus(gpus: float | None) -> float | None:
    """Returns the GPUs of a worker if Ray can reserve them.

    Args:
        gpus: a share below 1, or a whole number; None for an equal share.

    Returns:
        The same.

    Raises:
        UserError: it is negative, not a number, above 1 and not whole, or a smaller share than Ray knows.
    """
    if gpus is None or gpus == 0 or (math.isfinite(gpus) and (_LEAST <= gpus <= 1 or gpus == int(gpus) > 0)):
        return gpus
    raise UserError(
        f"a trial cannot reserve {gpus:g} GPUs: it can have a share of one, such as 0.5, or whole ones, such as 2",
        setting="--gpus-per-trial",
        given=gpus,
        allowed=f"a share from {_LEAST} to 1, or a whole number",
    )


def refuse_impossible(wanted: Reservation, nodes: Sequence[Node], *, grows: bool, asker: Asker = TRIAL) -> None:
    """Refuses what no node can hold, where that is known already.

    On a cluster whose autoscaler has named its types of nodes, none of them may be large enough. On another cluster a
    resource that no node has yet may still come with a node that joins, but one that every node has too little of is
    refused.

    Args:
        wanted: by each worker.
        nodes: that are alive.
        grows: whether nodes may join.
        asker: for messages.

    Raises:
        UserError: no node can hold a worker; names the resource and the figures.
    """
    if any(wanted.fits(node) for node in nodes):
        return
    types = node_types() if grows else None
    if types is not None:
        if any(wanted.fits(node) for node in types):
            return
        possible: Sequence[Node] = [*types, *nodes]
    else:
        possible = nodes
    for name, figure, setting, fewer in (
        ("CPU", float(wanted.cpus), asker.cpus, asker.fewer_cpus),
        ("GPU", wanted.gpus, asker.gpus, asker.fewer_gpus),
    ):
        most = max((node.get(name, 0.0) for node in possible), default=0.0)
        if most < figure and (most > 0 or types is not None or not grows):
            raise UserError(
                f"{asker.who} wants {figure:g} {name}{'' if figure == 1 else 's'}, but no machine of the cluster has "
                f"{f'more than {most:g}' if most else 'any'}; {fewer}"
                + (", or add a machine that has them" if grows else ""),
                setting=setting,
                given=figure,
                allowed=most,
            )
    if types is not None or not grows:
        raise UserError(
            f"{asker.who} wants {wanted}, which no machine of the cluster has together ({described(possible)}); "
            f"{asker.fewer_cpus}, or {asker.fewer_gpus}",
            setting=asker.gpus,
            given=wanted.gpus,
        )


def gpus_may_come() -> bool:
    """Returns whether the cluster's autoscaler may start nodes with GPUs, as far as it has said so."""
    return any(node.get("GPU", 0.0) >= 1 for node in node_types() or ())


def described(nodes: Sequence[Node]) -> str:
    """Returns what nodes have, in words.

    Args:
        nodes: that are alive.

    Returns:
        Such as "3 machines: 2 with 8 CPUs, 1 with 16 CPUs and 4 GPUs".
    """
    counts: dict[str, int] = {}
    for node in nodes:
        has = f"{node.get('CPU', 0.0):g} CPUs" + (f" and {node['GPU']:g} GPUs" if node.get("GPU") else "")
        counts[has] = counts.get(has, 0) + 1
    machines = "1 machine" if len(nodes) == 1 else f"{len(nodes)} machines"
    return f"{machines}: " + ", ".join(f"{count} with {has}" for has, count in sorted(counts.items()))
