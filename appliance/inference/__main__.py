"""Start of edgeseal-inference."""

from appliance.inference.service import serve
from appliance.machine.entry import run_service

raise SystemExit(run_service(serve))
