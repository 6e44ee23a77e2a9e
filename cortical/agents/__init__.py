"""Loops that drive themselves: agents do the work of their phases, durably."""

from __future__ import annotations

from cortical.agents.agent import Agent, AgentChanged, AgentNotFound, Quorum
from cortical.agents.effects import EffectUncertain, Reconciled
from cortical.agents.family import ChildFailed
from cortical.agents.following import stream
from cortical.agents.loop import Loop
from cortical.agents.running import Result, arun, provide, resume, run
from cortical.agents.spawn_policy import Decision, DefaultSpawnPolicy, SpawnPolicy
from cortical.agents.stuck import Stuck
from cortical.agents.verdict import Verdict
from cortical.agents.verifiers import command, human, quorum
from cortical.core.errors import LoopFailed
from cortical.core.policy import Retry

__all__ = [
    "Agent",
    "AgentChanged",
    "AgentNotFound",
    "ChildFailed",
    "Decision",
    "DefaultSpawnPolicy",
    "EffectUncertain",
    "Loop",
    "LoopFailed",
    "Quorum",
    "Reconciled",
    "Result",
    "Retry",
    "SpawnPolicy",
    "Stuck",
    "Verdict",
    "arun",
    "command",
    "human",
    "provide",
    "quorum",
    "resume",
    "run",
    "stream",
]
