"""Rules about software: packages, wheels, models, execution providers."""

from __future__ import annotations

from collections.abc import Iterator

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from builder.profile.problem import Finding, Path, did_you_mean
from builder.profile.rules import Rule, duplicates, finding, listed
from builder.profile.types import Profile

_NEVER = {
    "shell": ("bash", "busybox", "busybox-static", "dash", "ksh", "mksh", "tcsh", "zsh"),
    "way to log in": ("dropbear", "dropbear-bin", "login", "openssh-server", "sudo", "telnetd", "util-linux-login"),
    "package manager": ("apt", "aptitude", "dpkg", "python3-pip", "snapd"),
    "second interpreter": ("lua5.4", "nodejs", "perl", "perl-base", "ruby"),
}
_SERVICES_NEED = ("msgspec", "numpy", "paho-mqtt", "securesystemslib", "tuf", "urllib3")
_RUNTIMES = ("onnxruntime", "onnxruntime-openvino")
_PROVIDER_WHEEL = {"openvino": "onnxruntime-openvino", "qnn": "onnxruntime-qnn"}
_PROVIDER_ARCHITECTURE = {"openvino": "x86_64", "qnn": "arm64"}


def packages_bring_no_way_in(profile: Profile) -> Iterator[Finding]:
    """No shell, no login, no package manager."""
    for number, name in enumerate(profile.software.packages):
        for what, names in _NEVER.items():
            if name in names:
                hint = "what an image needs from it is done at build time; remove the line"
                yield finding(("software", "packages", number), f"`{name}` is a {what}, an image never has one", hint)
    yield from duplicates(("software", "packages"), profile.software.packages, hint="remove one of the two")


def wheels_are_pinned_once(profile: Profile) -> Iterator[Finding]:
    """Each project once, whatever its spelling, with a version that can exist."""
    names = [_project(pin) for pin in profile.software.wheels]
    yield from duplicates(("software", "wheels"), names, hint="keep the version that you want")
    for number, pin in enumerate(profile.software.wheels):
        yield from _version(("software", "wheels", number), pin)
    for number, model in enumerate(profile.software.models):
        yield from _version(("software", "models", number, "wheel"), model.wheel)


def services_have_their_libraries(profile: Profile) -> Iterator[Finding]:
    """What the services on the device import."""
    has = {_project(pin) for pin in profile.software.wheels}
    for name in _SERVICES_NEED:
        if name not in has:
            message = f"`{name}` is missing, a service needs it"
            yield finding(("software", "wheels"), message, f"add `- {name}==VERSION`")
    runtimes = [name for name in _RUNTIMES if name in has]
    if not runtimes:
        message = "`onnxruntime` is missing, the inference service needs it"
        yield finding(("software", "wheels"), message, "add `- onnxruntime==VERSION`")
    if len(runtimes) > 1:
        message = f"{' and '.join(runtimes)} are the same Python package and overwrite each other"
        yield finding(("software", "wheels"), message, "keep the one of your execution provider")


def provider_fits_board(profile: Profile) -> Iterator[Finding]:
    """An execution provider needs its processor and its wheel."""
    provider, path = profile.inference.execution_provider, ("inference", "execution_provider")
    wanted = _PROVIDER_ARCHITECTURE.get(provider, profile.architecture)
    if profile.architecture != wanted:
        message = f"`{provider}` is for {wanted}, the profile is {profile.architecture}"
        yield finding(path, message, "write `execution_provider: cpu`")
        return
    wheel = _PROVIDER_WHEEL.get(provider)
    if wheel and wheel not in {_project(pin) for pin in profile.software.wheels}:
        yield finding(path, f"`{provider}` needs the wheel {wheel}", f"add `- {wheel}==VERSION` to software.wheels")


def models_are_named_once(profile: Profile) -> Iterator[Finding]:
    """Names and labels are keys in verdicts."""
    yield from duplicates(
        ("software", "models"),
        [model.name for model in profile.software.models],
        key="name",
        hint="rename one of the two",
    )
    for number, model in enumerate(profile.software.models):
        path: Path = ("software", "models", number)
        yield from duplicates((*path, "labels"), model.labels, hint="two classes with one name cannot be told apart")
        if not model.labels:
            yield finding((*path, "labels"), "no label", "a verdict needs one for each class of the model")
        for label_number, label in enumerate(model.labels):
            if not label:
                yield finding((*path, "labels", label_number), "an empty label", "name the class")
        if model.file.startswith("/") or ".." in model.file.split("/"):
            hint = "write it as `unzip -l` of the wheel shows it"
            yield finding((*path, "file"), f"`{model.file}` leaves the wheel", hint)


def inference_has_its_model(profile: Profile) -> Iterator[Finding]:
    """The model that judges is one of those sealed in."""
    names = [model.name for model in profile.software.models]
    if profile.inference.model not in names:
        message = f"`{profile.inference.model}` is not in software.models"
        hint = did_you_mean(profile.inference.model, names, otherwise=f"models there: {listed(names)}")
        yield finding(("inference", "model"), message, hint)


def _project(pin: str) -> str:
    return canonicalize_name(pin.split("==")[0])


def _version(path: Path, pin: str) -> Iterator[Finding]:
    version = pin.split("==")[1]
    try:
        Version(version)
    except InvalidVersion:
        yield finding(path, f"`{version}` is not a version", "write it as the package index shows it, like 2.4.6")


RULES: tuple[Rule, ...] = (
    packages_bring_no_way_in,
    wheels_are_pinned_once,
    services_have_their_libraries,
    provider_fits_board,
    models_are_named_once,
    inference_has_its_model,
)
