"""What must hold of a store after all that was done to it: of what is in it, and of what the processes wrote down."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from attrs import Factory, define

from cortical.core.budget import CONSUMED, SPENT, Account
from cortical.core.events import Ended, Event, Noted, Started
from cortical.core.ports import Store
from cortical.core.tree import Tree
from cortical.looking.soundness import unsound
from tests.soak.facts import Fact


def problems_of_tree(root_id: str, log: Sequence[Event]) -> Iterator[str]:
    """What is wrong with one tree: its log, what it folds into, its children and its budgets."""
    yield from (f"tree {root_id}: {problem}" for problem in unsound(log))
    tree = Tree.of(log)
    spent: Counter[tuple[str, str]] = Counter()
    for event in log:
        if isinstance(event, Noted) and event.topic == SPENT:
            account = tree.index.runs[event.run_id].account
            assert account is not None
            for resource, amount in event.value["amounts"].items():
                spent[event.run_id, resource] += amount
    for run in tree.walk():
        if run.status.ended and any(not child.status.ended for child in run.children):
            yield f"tree {root_id}: {run.id} is {run.status.value}, and a child of it is open"
        if run.account is not None and run.account.run_id == run.id:
            yield from (f"tree {root_id}: {problem}" for problem in _overshot(run.account))
            used = sum(amount for (other, name), amount in spent.items() if name == "tokens" and other == run.id)
            if used > run.account.limit.get("tokens", float("inf")):
                yield f"tree {root_id}: {run.id} has spent {used} tokens by its log"
            width = run.account.limit.get("width", float("inf"))
            if any(len(below.children) > width for below in tree.walk(run)):
                yield f"tree {root_id}: more than {width} children below {run.id}"
            if sum(1 for _ in tree.walk(run)) - 1 > run.account.limit.get("descendants", float("inf")):
                yield f"tree {root_id}: more runs below {run.id} than its budget allows"


def _overshot(account: Account) -> Iterator[str]:
    for resource in CONSUMED:
        if resource in account.limit and account.available(resource) < 0:
            yield f"{account.run_id} has a limit of {account.limit[resource]:g} {resource}, and overshot it"


@define
class Told:
    """What the processes had written down, put in order."""

    #: Root → (run, count, kind of event) that were told by the journal once they were kept.
    events: dict[str, set[tuple[str, int, str]]] = Factory(lambda: defaultdict(set))
    answers: dict[str, list[tuple[str, str]]] = Factory(lambda: defaultdict(list))
    ended: dict[str, list[tuple[str, str]]] = Factory(lambda: defaultdict(list))
    children: list[tuple[str, str]] = Factory(list)
    #: What was done → the earliest moment at which that was reported.
    done: dict[tuple[str, ...], int] = Factory(dict)
    calls: dict[tuple[str, ...], list[tuple[int, int]]] = Factory(lambda: defaultdict(list))
    broken: list[str] = Factory(list)
    words: Counter[str] = Factory(Counter)

    @classmethod
    def of(cls, facts: Iterable[Fact]) -> Told:
        """Put them in order."""
        told = cls()
        for fact in facts:
            told.take(fact)
        return told

    def take(self, fact: Fact) -> None:
        """Add one."""
        self.words[fact.word] += 1
        match fact.word, fact.about:
            case "event", (root, run, seq, kind):
                self.events[root].add((run, int(seq), kind))
            case "answer", (root, loop, token):
                self.answers[root].append((loop, token))
            case "ended", (root, loop, status):
                self.ended[root].append((loop, status))
            case "child", (parent, child):
                self.children.append((parent, child))
            case "call", about:
                self.calls[about].append((fact.at, fact.pid))
            case "done", about:
                self.done[about] = min(fact.at, self.done.get(about, fact.at))
            case ("broken" | "unsound") as word, about:
                self.broken.append(f"process {fact.pid}: {word}: {' '.join(about).replace('⏎', chr(10))}")


def lost(told: Told, root_id: str, log: Sequence[Event]) -> Iterator[str]:
    """What had been told of one tree, and is not in its log."""
    kept = {(event.run_id, event.seq, type(event).__name__) for event in log}
    if len(kept) < len(log):
        yield f"tree {root_id}: a position of a run is there twice"
    for run_id, seq, kind in sorted(told.events.get(root_id, set()) - kept):
        yield f"tree {root_id}: event {seq} of {run_id}, {kind}, had been told, and is lost"
    answers = Counter(
        (event.run_id, event.value) for event in log if isinstance(event, Noted) and event.topic == "answer"
    )
    for loop, token in told.answers.get(root_id, ()):
        if answers[loop, token] != 1:
            yield f"tree {root_id}: an answer in {loop} had been recorded, and is there {answers[loop, token]} times"
    if root_id in told.ended:
        runs = Tree.of(log).index.runs
        for loop, status in told.ended[root_id]:
            if loop not in runs or runs[loop].status.value != status:
                yield f"tree {root_id}: {loop} had been {status}, and is not"


def done_twice(told: Told) -> Iterator[str]:
    """What was called again after it had been reported as done.

    A process that stood still for longer than its lease may finish, for nothing, what it had begun: once.
    """
    for what, at in told.done.items():
        late = [pid for moment, pid in told.calls.get(what, ()) if moment > at]
        if len(late) > 1:
            yield f"{' '.join(what)} had been done, and was called again by processes {late}"


def problems_of_all(store: Store, told: Told) -> Iterator[str]:
    """Everything: the file, each tree, and all that was told."""
    yield from told.broken
    yield from store.check()
    started: set[tuple[str, str]] = set()
    roots = store.roots()
    for root in roots:
        log = store.read(root.id)
        yield from problems_of_tree(root.id, log)
        yield from lost(told, root.id, log)
        ends = {event.run_id for event in log if isinstance(event, Ended)}
        if (root.ended_at is not None) is not (root.id in ends):
            yield f"tree {root.id}: the listing says {root.status.value}, its log does not"
        started |= {(event.parent_id, event.run_id) for event in log if isinstance(event, Started) and event.parent_id}
    for root_id in told.events.keys() - {root.id for root in roots}:
        yield f"tree {root_id} had been told of, and is lost"
    for parent, child in told.children:
        if (parent, child) not in started:
            yield f"{child} had been spawned below {parent}, and is lost"
    yield from done_twice(told)
