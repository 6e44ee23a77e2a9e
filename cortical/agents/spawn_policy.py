"""Whether a loop should hand questions to children, and which.

A policy looks at a small snapshot of the loop, never at the loop itself, so that it can be tried on made-up ones.
"""

from __future__ import annotations

import re
from typing import Any, Final, Protocol, runtime_checkable

from attrs import field, frozen

from cortical.agents.stuck import normalised
from cortical.core.checks import checked, require_count, require_number, shown
from cortical.core.errors import WrongType
from cortical.core.run import Run, Visit
from cortical.core.safe_text import counted
from cortical.core.topics import ANSWER, QUESTION

#: How long a visit of a phase may take, where the loop says nothing of its own: half an hour.
TIME_BOX_SECONDS: Final = 1800.0

_WORD: Final = re.compile(r"\w[\w./-]*")
_NAME: Final = re.compile(r"[./_\d]")
_EMPTY: Final = """
    a about all am an and any are as at be been but by can could do does did each every for from had has have how i if
    in into is may might must no not of on or our should so some than that the their there they to was we were what when
    where which who whose why will with would you your
"""
#: Words by which a question leans on what another one brings.
_BACKWARD: Final = "it its this these those them then therefore instead afterwards above previous former latter"
_EMPTY_WORDS: Final = frozenset(_EMPTY.split())
_BACKWARD_WORDS: Final = frozenset(_BACKWARD.split())


@frozen
class SpawnContext:
    """A loop as a policy sees it.

    `elapsed` is the share of the present phase's time box that is used (1.0: all of it), waiting not counted.
    `depth_left` is how many levels the tree may still grow below the loop; None when there is no limit. `asked` are
    the goals that the loop, those above it and its children have, normalised: asking them again would lead nowhere.
    """

    goal: str
    open_questions: tuple[str, ...] = ()
    answers: tuple[Any, ...] = ()
    depth: int = 0
    depth_left: int | None = None
    elapsed: float = 0.0
    asked: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, run: Run, *, now: float, max_depth: int | None = None, time_box: float = TIME_BOX_SECONDS
    ) -> SpawnContext:
        """The snapshot of a run at the time `now`.

        Args:
            now: seconds since the epoch.
            max_depth: how many levels the tree may have.
            time_box: seconds a phase may take, unless the run has a time box of its own.
        """
        box = float(run.metadata.get("time_box_minutes", time_box / 60)) * 60
        used = 0.0 if run.visit is None else _until(run, run.visit, now) - run.visit.entered_at - run.visit.waited
        relatives = [*run.tree.path(run), *run.children]
        return cls(
            goal=run.name,
            open_questions=tuple(open_questions(run)),
            answers=tuple(run.noted(ANSWER)),
            depth=run.depth,
            depth_left=None if max_depth is None else max(0, max_depth - 1 - run.depth),
            elapsed=max(0.0, used) / box if box > 0 else 1.0,
            asked=frozenset(normalised(relative.name) for relative in relatives),
        )


@frozen
class Decision:
    """Whether to spawn, and why; as a condition it is true when to."""

    spawn: bool
    why: str

    def __bool__(self) -> bool:
        return self.spawn


@runtime_checkable
class SpawnPolicy(Protocol):
    """Says whether a loop should hand questions to children, and which."""

    def should_spawn(self, context: SpawnContext) -> Decision:
        """Whether children should be spawned now, and why or why not."""
        ...

    def suggest_goals(self, context: SpawnContext) -> list[str]:
        """The goals that children could be given, the first asked first; empty when there are none."""
        ...


@frozen
class DefaultSpawnPolicy:
    """Spawns for several questions that do not need each other, while there is time.

    Two questions are independent when at most the share `most_overlap` of their content words is common to both: of
    the words of the one that has fewer, without filling words and those of the loop's own goal. Questions that name
    things (words with a dot, slash, underscore or digit in them) and share no such name are independent however alike
    they read: ``does a.py parse`` and ``does b.py parse``. A question that points back (it, those, then, …) needs
    another's answer, and is left to the loop. So is one that is the goal of the loop itself, of one above it, or of
    a child.

    It errs towards not spawning: what is left to the loop is still asked there.
    """

    #: How many independent open questions make children worth while.
    at_least: int = field(default=2, validator=checked(require_count, of="a DefaultSpawnPolicy"))
    #: How many goals are suggested at most.
    most: int = field(default=5, validator=checked(require_count, of="a DefaultSpawnPolicy"))
    most_overlap: float = field(default=0.5, validator=checked(require_number, of="a DefaultSpawnPolicy", most=1))
    #: The share of the time box after which it is too late.
    latest: float = field(default=0.75, validator=checked(require_number, of="a DefaultSpawnPolicy", above=0))

    def should_spawn(self, context: SpawnContext) -> Decision:
        """Whether enough independent questions are open, the tree may grow, and time is left; and why."""
        count = len(context.open_questions)
        if context.depth_left is not None and context.depth_left < 1:
            return Decision(False, f"the tree may not be deeper than here (depth {context.depth})")
        if count < self.at_least:
            return Decision(False, f"{_questions(count)} open; children are worth while from {self.at_least} on")
        if context.elapsed >= self.latest:
            return Decision(
                False, f"{context.elapsed:.0%} of the time box is used; it is too late from {self.latest:.0%} on"
            )
        independent = len(self._independent(context))
        told = f"{independent} of {count} open questions can be answered independently"
        if independent < self.at_least:
            return Decision(False, f"{told}; children are worth while from {self.at_least} on")
        return Decision(True, told)

    def suggest_goals(self, context: SpawnContext) -> list[str]:
        """The independent open questions, as asked, `most` at most; none when the tree may not be deeper.

        The time box and `at_least` are the matter of `should_spawn` alone.
        """
        if context.depth_left is not None and context.depth_left < 1:
            return []
        return self._independent(context)[: self.most]

    def _independent(self, context: SpawnContext) -> list[str]:
        taken: list[str] = []
        goal_words = content_words(context.goal)
        for question in context.open_questions:
            if normalised(question) in context.asked or _points_back(question):
                continue
            if all(self._apart(question, other, goal_words) for other in taken):
                taken.append(question)
        return taken

    def _apart(self, question: str, other: str, goal_words: frozenset[str]) -> bool:
        words, others = content_words(question), content_words(other)
        names, other_names = _names(words), _names(others)
        if names and other_names and not names & other_names:
            return True
        return _overlap(words - goal_words, others - goal_words) <= self.most_overlap


def require_policy(policy: object) -> SpawnPolicy:
    """`policy`, if it can be asked.

    Raises:
        WrongType: it lacks `should_spawn` or `suggest_goals`, or is a class.
    """
    if isinstance(policy, type) or not isinstance(policy, SpawnPolicy):
        raise WrongType(f"a spawn policy has should_spawn(context) and suggest_goals(context); {policy!r} has not")
    return policy


def decided(policy: SpawnPolicy, context: SpawnContext) -> Decision:
    """What the policy decides.

    Raises:
        WrongType: that is no `Decision`.
    """
    decision = policy.should_spawn(context)
    if not isinstance(decision, Decision):
        raise WrongType(f"should_spawn of a spawn policy returns a Decision(spawn, why), not {shown(decision)}")
    return decision


def suggested(policy: SpawnPolicy, context: SpawnContext) -> list[str]:
    """The goals that the policy suggests.

    Raises:
        WrongType: that is no list of texts.
    """
    goals: object = policy.suggest_goals(context)
    if not isinstance(goals, list | tuple) or not all(isinstance(goal, str) for goal in goals):
        raise WrongType(f"suggest_goals of a spawn policy returns a list of goals, not {shown(goals)}")
    return list(goals)


def open_questions(run: Run) -> list[str]:
    """The questions of a run that have no answer yet, in the order they were asked.

    One that is asked again while it is open counts once; after its answer, it is open again.

    An answer ``{"question": …, …}`` closes the question it names. Any other closes one: that with which it has most
    content words in common, or the oldest when it has none in common with any. A question that is a child's goal is
    that child's.
    """
    waiting: dict[str, str] = {}
    handed_on = {normalised(child.name) for child in run.children}
    for entry in run.entries or ():
        if entry.topic == QUESTION:
            key = normalised(str(entry.value))
            if key not in handed_on:
                waiting.setdefault(key, str(entry.value))
        elif entry.topic == ANSWER and (answered := _answered(entry.value, waiting)) is not None:
            del waiting[answered]
    return list(waiting.values())


def content_words(text: str) -> frozenset[str]:
    """The words of a text that carry its meaning: lower case, without filling words, a plural's s taken off."""
    return frozenset(
        word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
        for word in _words(text)
        if word not in _EMPTY_WORDS
    )


def _until(run: Run, visit: Visit, now: float) -> float:
    """When the visit's clock stopped: at its end, or when the run began to wait; else `now`."""
    if visit.left_at is not None:
        return visit.left_at
    return now if run.waits_since is None else run.waits_since


def _answered(answer: object, waiting: dict[str, str]) -> str | None:
    if isinstance(answer, dict) and "question" in answer:
        named = normalised(str(answer["question"]))
        return named if named in waiting else None
    words = content_words(str(answer))
    # max gives the first of equals, which is the oldest
    return max(waiting, key=lambda key: len(words & content_words(key)), default=None)


def _overlap(words: frozenset[str], others: frozenset[str]) -> float:
    fewer = min(len(words), len(others))
    return len(words & others) / fewer if fewer else 1.0


def _names(words: frozenset[str]) -> frozenset[str]:
    return frozenset(word for word in words if _NAME.search(word))


def _points_back(question: str) -> bool:
    return not _BACKWARD_WORDS.isdisjoint(_words(question))


def _words(text: str) -> list[str]:
    return [word.rstrip("./-") for word in _WORD.findall(text.casefold())]


def _questions(count: int) -> str:
    return counted(count, "question is", "questions are")
