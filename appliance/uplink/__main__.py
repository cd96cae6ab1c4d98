"""Start of edgeseal-uplink."""

from appliance.machine.entry import run_service
from appliance.uplink.service import serve

raise SystemExit(run_service(serve))
