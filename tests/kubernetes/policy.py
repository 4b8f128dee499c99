"""PURE: what the Job controller makes of a pod that has ended, as the manifest's policy says.

After Kubernetes' own account of `podFailurePolicy`: the rules are asked in their order, and the
first that fits decides; a failure that none fits counts towards the limits. A rule on exit codes
fits a container that ended by itself or by a signal (128 + its number), never with 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

COUNT = "Count"
DISRUPTION = "DisruptionTarget"


@dataclass(frozen=True, slots=True)
class Ended:
    """A pod that has failed.

    Attributes:
        index: Its completion index.
        code: What its container ended with, as Kubernetes tells it.
        conditions: The pod's conditions that are true.
    """

    index: int
    code: int
    conditions: frozenset[str] = frozenset()


def action_for(spec: dict[str, Any], ended: Ended) -> str:
    """What becomes of a failure: Ignore, FailJob, FailIndex or Count."""
    for rule in spec.get("podFailurePolicy", {}).get("rules", ()):
        if _fits(rule, ended):
            action: str = rule["action"]
            return action
    return COUNT


def _fits(rule: dict[str, Any], ended: Ended) -> bool:
    conditions = rule.get("onPodConditions", ())
    if any(c.get("status", "True") == "True" and c["type"] in ended.conditions for c in conditions):
        return True
    codes = rule.get("onExitCodes")
    if codes is None or ended.code == 0:
        return False
    within = ended.code in codes["values"]
    return within if codes["operator"] == "In" else not within


def as_kubernetes_tells(returncode: int) -> int:
    """A process' end as the exit code of a container."""
    return 128 - returncode if returncode < 0 else returncode
