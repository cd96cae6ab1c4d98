"""Start of edgeseal-audit."""

from appliance.audit.service import serve
from appliance.machine.entry import run_service

raise SystemExit(run_service(serve))
