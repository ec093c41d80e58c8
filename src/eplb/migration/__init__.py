"""From one placement to the next: what moves between ranks, and how it gets there.

`plan_transfers` says who sends what to whom, `migrate` and `Migrator` do it, and `recover` says what is left after
ranks were lost.
"""

from eplb.migration.assignment import Assignment, assign
from eplb.migration.copies import Copies
from eplb.migration.migrator import Migrator, migrate
from eplb.migration.recovery import Recovery, recover
from eplb.migration.report import Commit, MigrationReport
from eplb.migration.sparing import Reload
from eplb.migration.tables import LiveTables
from eplb.migration.transfers import Transfers, plan_transfers

__all__ = [
    "Assignment",
    "Commit",
    "Copies",
    "LiveTables",
    "MigrationReport",
    "Migrator",
    "Recovery",
    "Reload",
    "Transfers",
    "assign",
    "migrate",
    "plan_transfers",
    "recover",
]
