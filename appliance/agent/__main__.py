"""Start of edgeseal-agent."""

from appliance.agent.service import serve
from appliance.machine.entry import run_service

raise SystemExit(run_service(serve))
