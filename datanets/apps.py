from __future__ import annotations

import sys

from django.apps import AppConfig
from django.core import checks

from . import sandbox

# What holds even when a decoder written in C is taken over; the other layers always exist.
_KERNEL = {
    "network_namespace": "an empty network namespace",
    "landlock": "Landlock (files)",
    "seccomp": "seccomp (system calls)",
}


class DatanetsConfig(AppConfig):
    name = "datanets"
    default_auto_field = "django.db.models.BigAutoField"


@checks.register("sandbox")
def check_sandbox(app_configs, **_) -> list[checks.CheckMessage]:
    """`manage.py check` says which layers of the sandbox are active on this machine, by asking a child."""
    if sys.argv[1:2] != ["check"]:
        return []  # every command runs the checks; none of the others should wait for a child
    return sandbox_messages(sandbox.active_protections())


def sandbox_messages(active: dict[str, bool]) -> list[checks.CheckMessage]:
    """A note for each active layer, a warning for each that the kernel does not give us."""
    messages: list[checks.CheckMessage] = []
    for name, works in active.items():
        layer = _KERNEL.get(name, name.replace("_", " "))
        if works:
            messages.append(checks.Info(f"The sandbox has this layer: {layer}.", id="datanets.I001"))
        else:
            messages.append(
                checks.Warning(
                    f"The sandbox goes without this layer: {layer}.",
                    hint="The kernel, or the container, does not allow it. Uploaded files are still read in a process "
                    "with resource limits and an audit hook, which hold parsers written in Python only.",
                    id="datanets.W001",
                )
            )
    return messages
