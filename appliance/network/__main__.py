"""Start of edgeseal-network."""

from appliance.machine.entry import run_service
from appliance.network.service import serve

raise SystemExit(run_service(serve))
