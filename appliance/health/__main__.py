"""Start of edgeseal-health."""

from appliance.health.service import serve
from appliance.machine.entry import run_service

raise SystemExit(run_service(serve))
