"""The commands beside this package: up, down, status, wipe, server and hdfs."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence

from modelhub_stack import hdfs, stack
from modelhub_stack.probe import NotReadyError
from modelhub_stack.servers import Server
from modelhub_stack.settings import (
    Settings,
    StackError,
    home_folder,
    locked,
    recorded,
    requested,
    say,
)

_ENVIRONMENT = """
environment:
  MODELHUB_STACK_HOME     folder of the stack: data, logs, process ids, modelhub.toml
                          (default: /var/tmp/modelhub-stack-UID; user 65534 must be able to
                          reach it where root runs this, since Elasticsearch refuses to be root)
  MODELHUB_STACK_PORTS    first of the ports, which follow each other (default: 28000)
  MODELHUB_STACK_X_PORT   one port, where X is NAMENODE, WEBHDFS, HBASE, HBASE_REGION, ZOOKEEPER,
                          THRIFT, ELASTICSEARCH, ELASTICSEARCH_TRANSPORT, or for N from 1 on
                          DATANODE_N, DATANODE_N_HTTP, DATANODE_N_IPC
  MODELHUB_STACK_WAIT_S   how long a server may take until it answers (default: 240)
  MODELHUB_STACK_JVMS     folders with Java homes in them, joined by colons
                          (default: /usr/lib/jvm:/usr/java:/opt, and JAVA_HOME, and java on PATH)
  XDG_CACHE_HOME          what is downloaded goes to modelhub/stack in there (default: ~/.cache)

HDFS and HBase need Java 17 to 21. Elasticsearch is 9.4.3 where there is a Java of version 21 or
later, and 8.16.1 otherwise. Every server listens on 127.0.0.1 alone.
"""

_SHELLS = {
    "dfs": "org.apache.hadoop.fs.FsShell",
    "dfsadmin": "org.apache.hadoop.hdfs.tools.DFSAdmin",
    "fsck": "org.apache.hadoop.hdfs.tools.DFSck",
}


def up() -> int:
    """Start the stack and print the path of the file with its profile."""
    parser = _parser(
        "up",
        "Start real HDFS, HBase and Elasticsearch servers, and print the path of a modelhub.toml "
        "whose profile 'stack' names them. What runs already is left as it is.",
    )
    parser.add_argument(
        "--datanodes",
        type=int,
        choices=range(1, 10),
        metavar="N",
        help="how many DataNodes to make, from 1 to 9; replication is N, at most 3 (default: 1)",
    )
    parser.add_argument(
        "--secure", action="store_true", help="Elasticsearch with TLS, users and passwords"
    )
    arguments = parser.parse_args()

    def start() -> int:
        settings = requested(datanodes=arguments.datanodes, secure=arguments.secure)
        settings.home.mkdir(parents=True, exist_ok=True)
        with locked(settings.home):
            print(stack.up(settings))
        return 0

    return _carry_out(start)


def down() -> int:
    """End the stack's servers; its data stays."""
    _parser("down", "End the servers of the stack. Their data stays.").parse_args()
    return _carry_out(lambda: _on_made(stack.down))


def wipe() -> int:
    """End the stack's servers and delete their data."""
    _parser("wipe", "End the servers of the stack, and delete all of its data.").parse_args()
    return _carry_out(lambda: _on_made(stack.wipe))


def status() -> int:
    """Print what runs and what answers."""
    parser = _parser(
        "status", "Print the servers of the stack. The exit code is 0 only if all of them answer."
    )
    parser.parse_args()

    def show() -> int:
        rows = [_row(server) for server in stack.servers(_made())]
        print(f"{'server':<14}{'pid':>8}{'port':>7}{'memory':>9}  state")
        for name, pid, port, memory, state in rows:
            print(f"{name:<14}{pid:>8}{port:>7}{memory:>9}  {state}")
        return 0 if all(row[-1] == "answers" for row in rows) else 1

    return _carry_out(show)


def server() -> int:
    """Start or end one server."""
    parser = _parser("server", "Start or end one server of the stack, as 'status' names it.")
    parser.add_argument("name")
    parser.add_argument(
        "action",
        choices=["start", "stop", "restart", "kill"],
        help="stop lets it tidy up, kill does not (SIGKILL); start waits until it answers",
    )
    arguments = parser.parse_args()

    def act(settings: Settings) -> None:
        known = {server.name: server for server in stack.servers(settings)}
        if arguments.name not in known:
            raise StackError(f"there is no server {arguments.name}, but {', '.join(known)}")
        chosen = known[arguments.name]
        if arguments.action == "kill":
            chosen.kill()
        if arguments.action in {"stop", "restart"}:
            chosen.stop()
        if arguments.action in {"start", "restart"}:
            chosen.start()

    return _carry_out(lambda: _on_made(act))


def shell(arguments: Sequence[str] = sys.argv[1:]) -> int:
    """Become the ``hdfs`` command of Hadoop, for this stack."""
    if not arguments or arguments[0] not in _SHELLS:
        say(f"usage: hdfs {'|'.join(_SHELLS)} ARGUMENT...   Hadoop's own command, on the stack")
        return 2

    def become() -> int:
        conf = hdfs.configure(_made())
        launch = hdfs.java(conf, _SHELLS[arguments[0]], *arguments[1:])
        os.execve(launch.command[0], list(launch.command), dict(launch.environ))  # noqa: S606

    return _carry_out(become)


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=name,
        description=description,
        epilog=_ENVIRONMENT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _made() -> Settings:
    home = home_folder()
    settings = recorded(home)
    if settings is None:
        raise StackError(f"there is no stack in {home}; `up` makes one")
    return settings


def _on_made(action: Callable[[Settings], None]) -> int:
    settings = _made()
    with locked(settings.home):
        action(settings)
    return 0


def _carry_out(command: Callable[[], int]) -> int:
    # Everything on disk is whole at every moment, so an interrupt may end this at once.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return command()
    except StackError as exc:
        say(str(exc))
        return 1


def _row(server: Server) -> tuple[str, str, str, str, str]:
    running = server.process()
    state, pid, memory = "not running", "-", "-"
    if running is not None:
        pid, memory = str(running.pid), f"{running.resident_bytes() >> 20} MiB"
        try:
            server.check()
            state = "answers"
        except NotReadyError as exc:
            state = str(exc)
    return server.name, pid, str(server.port), memory, state
