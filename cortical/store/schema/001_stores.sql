-- A row for each tree: the listing, kept true with the log in the same transaction.
CREATE TABLE roots (
    number     INTEGER PRIMARY KEY,          -- in the order they were started
    id         TEXT NOT NULL UNIQUE,
    kind       TEXT NOT NULL,
    goal       TEXT NOT NULL,
    status     TEXT NOT NULL,
    reason     TEXT,                         -- why it ended
    started_at REAL NOT NULL,                -- seconds since the epoch
    ended_at   REAL
);
CREATE INDEX roots_open ON roots (number) WHERE ended_at IS NULL;
CREATE INDEX roots_waiting ON roots (id) WHERE status = 'not_started';

-- Which tree a run belongs to.
CREATE TABLE runs (
    id   TEXT PRIMARY KEY,
    root TEXT NOT NULL
) WITHOUT ROWID;

-- The log. A record holds the events that became true together; its position is that of the first of
-- them in the tree's log (0, 1, …), so that two writers who saw the same log cannot both add to it.
-- One key holds tree and position: reading one tree reads neighbouring pages, a write touches one page,
-- and a record is kept within it up to its size. Old records may be packed: one row, at the position of the
-- first, then stands for many. The last record of a log never is: by it a late writer is known.
CREATE TABLE records (
    key  INTEGER PRIMARY KEY,                -- the tree's number * 2^32 + position
    body BLOB NOT NULL                       -- JSON, an array of events; packed by zlib, it begins with 'x', not '['
);

-- Who drives a tree. A row is made when a tree is first driven; each new holder raises the fence.
CREATE TABLE leases (
    root       TEXT PRIMARY KEY,
    holder     TEXT NOT NULL,
    fence      INTEGER NOT NULL,
    expires_at REAL NOT NULL                 -- seconds since the epoch
) WITHOUT ROWID;
