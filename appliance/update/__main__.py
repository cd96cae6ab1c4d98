"""Start of edgeseal-update."""

from appliance.machine.entry import run_service
from appliance.update.service import serve

raise SystemExit(run_service(serve))
