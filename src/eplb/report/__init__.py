"""What an operator looks at: one HTML file that shows what policies did with a trace, and what to do."""

from eplb.report.examining import examine
from eplb.report.findings import Findings
from eplb.report.page import check_report_path, plotly_library, report_html, write_report
from eplb.report.recommendation import NumberTable, Recommendation
from eplb.report.recommending import recommend
from eplb.report.saved import holds_replays, load_findings
from eplb.report.settings import Settings

__all__ = [
    "Findings",
    "NumberTable",
    "Recommendation",
    "Settings",
    "check_report_path",
    "examine",
    "holds_replays",
    "load_findings",
    "plotly_library",
    "recommend",
    "report_html",
    "write_report",
]
