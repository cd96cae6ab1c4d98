"""Start of edgeseal-audit-export."""

from appliance.export.service import serve
from appliance.machine.entry import run_service

raise SystemExit(run_service(serve))
