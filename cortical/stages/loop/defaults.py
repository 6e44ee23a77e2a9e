"""A configuration to begin with."""

from __future__ import annotations

from typing import Any


def default_config() -> dict[str, Any]:
    """The configuration of one stage that works through its data in batches of a hundred; a new one at each call."""
    return {
        "stages": {
            "data_processing": {
                "sequence": 3,
                "requires_previous": True,
                "validation_required": True,
                "loop_config": {
                    "enabled": True,
                    "type": "dynamic",  # 'fixed', 'dynamic', or 'condition-based'
                    "init_decision": "processing_initialization",
                    "iteration_decision": "iteration_parameters",
                    "continue_condition": "has_more_data",
                    "max_iterations": 10,  # Safety limit
                    "iteration_data_key": "data_batch",
                },
                "substages": {
                    "prepare_iteration": {"sequence": 1, "description": "Prepare data for current iteration"},
                    "process_batch": {"sequence": 2, "description": "Process the current data batch"},
                    "validate_results": {"sequence": 3, "description": "Validate results from this iteration"},
                    "store_iteration_results": {"sequence": 4, "description": "Store results from this iteration"},
                },
                "decisions": {
                    "processing_initialization": {"batch_size": 100, "processing_mode": "standard"},
                    "iteration_parameters": {"apply_filters": True, "threshold": 0.5},
                },
            },
        }
    }
