"""What an engine sets on its machine and leaves there: a bridge, rules, forwarding."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
_BRIDGE = "docker0"
_TABLES = ("filter", "nat")


def keep_settings(file: Path) -> None:
    """Written down unless an engine has left its own already: the machine's, or a killed one."""
    if _BRIDGE not in {name for _, name in socket.if_nameindex()}:
        policy = _run("iptables", "-S", "FORWARD").split()[2]
        file.write_text(json.dumps({"forward": _FORWARD.read_text(), "policy": policy}))


def restore_settings(file: Path) -> None:
    """As they were when they were kept; nothing where they were not."""
    if not file.is_file():
        return
    kept = json.loads(file.read_text())
    for table in _TABLES:
        rules = _without_docker(_run("iptables-save", "-t", table))
        _run("iptables-restore", "-T", table, text=rules)
    _run("iptables", "-P", "FORWARD", kept["policy"])
    _run("ip", "link", "delete", _BRIDGE)
    _FORWARD.write_text(kept["forward"])
    file.unlink()


def _without_docker(rules: str) -> str:
    lines = [line for line in rules.splitlines() if "docker" not in line.lower()]
    return "\n".join([*lines, ""])


def _run(*command: str, text: str = "") -> str:
    environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    return subprocess.run(
        command, input=text, capture_output=True, text=True, env=environ, check=True
    ).stdout
