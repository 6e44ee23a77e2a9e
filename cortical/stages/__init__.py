"""Stages and pipelines: pieces of work that say what they need and give, in an order that follows from it."""

from __future__ import annotations

from cortical.stages.assembly import StageRef
from cortical.stages.context import Key, Mode, StageContext
from cortical.stages.core_stages import Plugin, PluginFailed, plugin_stages
from cortical.stages.dry_run import Conflict, Plan, StagePlan
from cortical.stages.effects import Effect
from cortical.stages.errors import (
    DefinitionChanged,
    DefinitionError,
    DependencyCycle,
    DuplicateStage,
    InvalidPipeline,
    MissingKey,
    StageInUse,
    UndeclaredKey,
    UnknownPipeline,
    UnknownStage,
    WrongValue,
)
from cortical.stages.execution import Execution, execute, resume
from cortical.stages.export import Format, export, gantt
from cortical.stages.manager import Life, ManagerStopped, StageManager
from cortical.stages.pipeline import Pipeline
from cortical.stages.progress import PipelineProgress, progress
from cortical.stages.registry import StageRegistry
from cortical.stages.requirement import Requirement, optional, required
from cortical.stages.results import PipelineFailed, PipelineResult, StageFailed, StageResult
from cortical.stages.stage import FunctionStage, Stage, stage
from cortical.stages.undoing import undo
from cortical.stages.validation import Problem

__all__ = [
    "Conflict",
    "DefinitionChanged",
    "DefinitionError",
    "DependencyCycle",
    "DuplicateStage",
    "Effect",
    "Execution",
    "Format",
    "FunctionStage",
    "InvalidPipeline",
    "Key",
    "Life",
    "ManagerStopped",
    "MissingKey",
    "Mode",
    "Pipeline",
    "PipelineFailed",
    "PipelineProgress",
    "PipelineResult",
    "Plan",
    "Plugin",
    "PluginFailed",
    "Problem",
    "Requirement",
    "Stage",
    "StageContext",
    "StageFailed",
    "StageInUse",
    "StageManager",
    "StagePlan",
    "StageRef",
    "StageRegistry",
    "StageResult",
    "UndeclaredKey",
    "UnknownPipeline",
    "UnknownStage",
    "WrongValue",
    "execute",
    "export",
    "gantt",
    "optional",
    "plugin_stages",
    "progress",
    "required",
    "resume",
    "stage",
    "undo",
]
