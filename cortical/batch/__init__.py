"""Many items by one handler: so many at a time, each with an outcome that is kept, taken up again where it stood."""

from __future__ import annotations

from cortical.batch.context import ItemContext
from cortical.batch.errors import BatchChanged, BatchFailed, ItemFailed, OutsideWorkspace, ProcessDied, ShellFailed
from cortical.batch.processor import BatchProcessor
from cortical.batch.result import BatchProgress, BatchResult
from cortical.batch.tasks import create_batch_task_handler, register_task, task_names
from cortical.batch.workflow import StepResult, Workflow, WorkflowResult, resume_workflow
from cortical.batch.workflow_checks import InvalidWorkflow
from cortical.core.policy import Retry

__all__ = [
    "BatchChanged",
    "BatchFailed",
    "BatchProcessor",
    "BatchProgress",
    "BatchResult",
    "InvalidWorkflow",
    "ItemContext",
    "ItemFailed",
    "OutsideWorkspace",
    "ProcessDied",
    "Retry",
    "ShellFailed",
    "StepResult",
    "Workflow",
    "WorkflowResult",
    "create_batch_task_handler",
    "register_task",
    "resume_workflow",
    "task_names",
]
