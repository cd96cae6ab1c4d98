"""What the commands of a site and of bundles print. Pure: data in, data or text out."""

from __future__ import annotations

from typing import Any

import msgspec

from appliance.formats.approval import SitePolicy
from builder.publish.bundle import Carried, Checked, model_versions
from builder.publish.ceremony import Ceremony
from builder.publish.policy import utc
from builder.publish.policywords import policy_words
from builder.publish.words import signature_lines


def policy_data(policy: SitePolicy) -> dict[str, Any]:
    """For --json: the policy itself, and its words."""
    return {**msgspec.to_builtins(policy), "words": policy_words(policy)}


def status_data(found: dict[str, Any]) -> dict[str, Any]:
    """Of `site_status`."""
    waiting: Ceremony | None = found["waiting"]
    approvers = found["approvers"]
    return {
        "repository": found["repository"],
        "development": found["development"],
        "policies": [policy_data(policy) for policy in found["policies"]],
        "approvers": [] if approvers is None else approvers.holders,
        "threshold": 0 if approvers is None else approvers.threshold,
        "days_left": found["lapses"],
        "waiting": None if waiting is None else {"title": waiting.title, "signatures": signature_lines(waiting)},
    }


def render_status(result: Any) -> str:
    """For a person."""
    lines = []
    if result["policies"]:
        mark = ", DEVELOPMENT keys" if result["development"] else ""
        lines.append(f"{result['repository']}: site {result['policies'][0]['site']}{mark}")
        lines.append(f"approvers: {result['threshold']} of {', '.join(result['approvers'])}")
        lines += [_lapse(role, days) for role, days in result["days_left"].items()]
        for policy in result["policies"]:
            first, *rest = policy["words"]
            lines += ["", first, *(f"  {line}" for line in rest)]
    if result["waiting"]:
        lines += ["", f"waits for signatures: {result['waiting']['title']}"]
        lines += [f"  {line}" for line in result["waiting"]["signatures"]]
    return "\n".join(lines)


def render_change(result: Any) -> str:
    """Of every command that stages something."""
    lines = [*result["words"], *result["signatures"]]
    if result["staged"] is None:
        return "\n".join([*lines, "in force"])
    steps = [f"edgeseal site sign {result['staged']} --key KEY   # by each approver named above"]
    return "\n".join([*lines, f"staged: {result['staged']}", *steps, f"edgeseal site finish {result['repository']}"])


def render_sign(result: Any) -> str:
    """Of `edgeseal site sign`."""
    signed = [f"signed: {', '.join(result['signed'])}"] if result["signed"] else []
    return "\n".join([*result["words"], *signed, *result["signatures"]])


def bundle_data(checked: Checked) -> dict[str, Any]:
    """Of `verify_bundle`."""
    return {
        "site": checked.label.site,
        "signed_at": checked.label.signed_at,
        "files": checked.files,
        "lapses": checked.lapses,
        "products": [_carried_data(item) for item in checked.carried],
    }


def render_bundle(result: Any) -> str:
    """For a person."""
    lines = [f"verified as a device does: {result['files']} files for site {result['site']}"]
    for name, instant in sorted(result["lapses"].items()):
        lines.append(f"{name} metadata holds until {utc(instant)}")
    for item in result["products"]:
        versions = ", ".join(str(version) for version in item["versions"]) or "no version"
        lines.append(f"{item['product']}: {versions}, policy {item['policy_sequence']}, mode {item['mode']}")
        lines += [f"  model {name}: {', '.join(map(str, found))}" for name, found in item["models"].items()]
        lines += [f"  approved, but not at the vendor: {path}" for path in item["missing"]]
    return "\n".join(lines)


def _carried_data(item: Carried) -> dict[str, Any]:
    return {
        "product": item.policy.product,
        "policy_sequence": item.policy.sequence,
        "mode": item.policy.mode,
        "versions": sorted({release.release.version for release in item.releases}),
        "models": {name: list(versions) for name, versions in model_versions(item)},
        "missing": list(item.missing),
    }


def _lapse(role: str, days: int) -> str:
    return f"{role} holds for {days} days" if days >= 0 else f"{role} LAPSED {-days} days ago"
