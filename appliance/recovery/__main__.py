"""Start of edgeseal-recovery-escrow."""

from appliance.machine.entry import run_service
from appliance.recovery.service import serve

raise SystemExit(run_service(serve))
