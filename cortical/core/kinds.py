"""What kinds of runs there are, each written once."""

from __future__ import annotations

from typing import Final

#: A loop: of reasoning, of an agent, or controlled.
LOOP: Final = "loop"

#: Stages that wait for one another, and one of them.
PIPELINE: Final = "pipeline"
STAGE: Final = "stage"

#: Stages one after another, some of which loop: `STAGE` below it, and below that its iterations and substages.
PROCESS: Final = "process"
ITERATION: Final = "iteration"
STEP: Final = "step"

#: A batch, and what carries out one of its items, or a chunk of them.
BATCH: Final = "batch"
ITEM: Final = "item"
