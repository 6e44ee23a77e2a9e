"""What notes are about: the topics by which the library's own parts tell each other, each written once."""

from __future__ import annotations

from typing import Final

#: Ends a visit without moving on.
VISIT_ENDED: Final = "visit_ended"
#: Lets go of checkpoints; its value is their numbers.
CHECKPOINTS_DELETED: Final = "checkpoints_deleted"

#: Each driving of a controlled loop begins with it: for how many seconds it had been driven, and had waited, before.
DRIVEN: Final = "driven"
#: The limits that are known beforehand, when they are others than before: name → limit.
LIMITS: Final = "limits"
#: How many turns or children there will be.
TOTAL: Final = "total"
#: What is used of resources: name → amount.
RESOURCES: Final = "resources"

#: An attempt that failed; the same visit goes on.
ATTEMPT: Final = "attempt"
#: What came out of an iteration, which is finished.
RESULT: Final = "result"
#: Why an iteration was left unfinished for good.
SKIPPED: Final = "skipped"
#: A try to recover the run, also after its end.
RECOVERY: Final = "recovery"

#: A stage that was taken back, also after the end of its pipeline; an iteration that is tried again, or rolled back.
UNDONE: Final = "undone"

#: What ended a run, by name: a limit, a condition. And its figures in a sentence.
LIMIT: Final = "limit"
STOPPED: Final = "stopped"

#: What a phase has done once, by key; what it is about to do, and has done, that must not happen twice.
STEP: Final = "step"
INTENT: Final = "effect_intended"
EFFECT: Final = "effect"

#: What verify said, that turns repeat themselves, a question to a person, and the answer.
VERDICT: Final = "verdict"
STUCK: Final = "stuck"
ASKED: Final = "asked"
PROVIDED: Final = "provided"

#: What is said in a phase, or decided by a stage.
QUESTION: Final = "question"
ANSWER: Final = "answer"
DECISION: Final = "decision"
ARTIFACT: Final = "artifact"
NOTE: Final = "note"
LOG: Final = "log"

#: By which a driver in any process is asked to let the open phases finish, and stop.
DRAIN: Final = "drain"
