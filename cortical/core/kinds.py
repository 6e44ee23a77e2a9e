"""What kinds of runs stages are made of, from the top down, each written once."""

from __future__ import annotations

from typing import Final

#: Stages that wait for one another, and one of them.
PIPELINE: Final = "pipeline"
STAGE: Final = "stage"

#: Stages one after another, some of which loop: `STAGE` below it, and below that its iterations and substages.
PROCESS: Final = "process"
ITERATION: Final = "iteration"
STEP: Final = "step"
