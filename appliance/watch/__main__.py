"""Start of edgeseal-watch."""

from appliance.machine.entry import run_service
from appliance.watch.service import serve

raise SystemExit(run_service(serve))
