"""HDFS: a NameNode, and one or more DataNodes."""

from __future__ import annotations

import grp
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from xml.etree import ElementTree as ET

from modelhub_stack import artifacts, tools
from modelhub_stack.probe import NotReadyError, get_json
from modelhub_stack.servers import Launch, Server, java_environ
from modelhub_stack.settings import HOST, SOURCES, Settings, write_whole

# Hadoop and HBase reach into Java's own packages, which Java 17 allows only when told to.
_OPENED = (
    "java.lang",
    "java.lang.reflect",
    "java.nio",
    "java.util",
    "sun.nio.ch",
    "jdk.internal.ref",
    "jdk.internal.misc",
)


def namenode(settings: Settings) -> Server:
    """The server of names: where every file of HDFS is."""
    return Server(
        "namenode", settings, partial(_prepare_namenode, settings), partial(_check_names, settings)
    )


def datanodes(settings: Settings) -> list[Server]:
    """The servers of bytes."""
    return [
        Server(
            name,
            settings,
            partial(_prepare_data, settings, name),
            partial(_check_data, settings, name),
        )
        for name in (f"datanode-{number}" for number in range(1, settings.datanodes + 1))
    ]


def java(
    conf: Path, main: str, *arguments: str, jars: str = "hdfs", options: Sequence[str] = ()
) -> Launch:
    """A Java program of Hadoop or HBase, with the configuration in ``conf``."""
    command = [
        str(tools.hadoop_java() / "bin" / "java"),
        *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED),
        "--add-exports=java.base/jdk.internal.misc=ALL-UNNAMED",
        "-Djava.net.preferIPv4Stack=true",
        "-XX:-UsePerfData",
        *options,
        f"--class-path={conf}:{artifacts.jars(jars)}/*",
        main,
        *arguments,
    ]
    return Launch(command, folder=conf, environ=java_environ(conf))


def small(heap_mb: int) -> list[str]:
    """Options of a server that starts soon and takes little memory, rather than run fastest."""
    return [
        f"-Xmx{heap_mb}m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:+ExitOnOutOfMemoryError",
    ]


def configure(settings: Settings) -> Path:
    """Write the configuration of servers and clients, and return its folder."""
    conf = settings.home / "hdfs" / "conf"
    for part in ("hdfs", "datanode", "secondary"):
        # The jars lack the web pages, and without the folders the servers won't start.
        (conf / "webapps" / part).mkdir(parents=True, exist_ok=True)
    write_sites(settings, conf)
    return conf


def write_sites(settings: Settings, conf: Path) -> None:
    """Write what every program that uses this HDFS reads to the folder ``conf``."""
    ports, data = settings.ports, settings.home / "hdfs"
    site(
        conf / "core-site.xml",
        {
            "fs.defaultFS": f"hdfs://{HOST}:{ports['namenode']}",
            "hadoop.tmp.dir": str(data / "work"),
        },
    )
    site(
        conf / "hdfs-site.xml",
        {
            "dfs.replication": settings.datanodes if settings.datanodes < 3 else 3,
            "dfs.namenode.name.dir": f"file://{data}/namenode",
            "dfs.namenode.http-address": f"{HOST}:{ports['webhdfs']}",
            "dfs.permissions.superusergroup": grp.getgrgid(os.getgid()).gr_name,
            "dfs.datanode.hostname": HOST,
            "dfs.client.use.datanode.hostname": "true",
            # A DataNode that is gone is known to be after 20 seconds, not ten minutes.
            "dfs.heartbeat.interval": 1,
            "dfs.namenode.heartbeat.recheck-interval": 5000,
            "dfs.namenode.stale.datanode.interval": 5000,
            "dfs.namenode.avoid.read.stale.datanode": "true",
            "dfs.namenode.avoid.write.stale.datanode": "true",
            # There is nobody to take the place of one of three: go on with the others.
            "dfs.client.block.write.replace-datanode-on-failure.best-effort": "true",
            "dfs.namenode.safemode.extension": 0,
        },
    )
    write_whole(conf / "log4j.properties", (SOURCES / "log4j.properties").read_text())


def site(path: Path, properties: Mapping[str, object]) -> None:
    """Write a Hadoop configuration file."""
    root = ET.Element("configuration")
    for name, value in properties.items():
        element = ET.SubElement(root, "property")
        ET.SubElement(element, "name").text = name
        ET.SubElement(element, "value").text = str(value)
    ET.indent(root)
    write_whole(path, ET.tostring(root, encoding="unicode") + "\n")


def _prepare_namenode(settings: Settings) -> Launch:
    main = "org.apache.hadoop.hdfs.server.namenode.NameNode"
    conf = configure(settings)
    names = settings.home / "hdfs" / "namenode"
    if not (names / "current" / "VERSION").exists():
        # Formatting writes that file last: without it nothing was ever stored here.
        shutil.rmtree(names, ignore_errors=True)
        launch = java(conf, main, "-format", "-nonInteractive", options=small(128))
        tools.run(launch.command, environ=launch.environ)
    return java(conf, main, options=small(192))


def _prepare_data(settings: Settings, name: str) -> Launch:
    ports = settings.ports
    properties = {
        "dfs.datanode.data.dir": f"file://{settings.home}/hdfs/{name}",
        "dfs.datanode.address": f"{HOST}:{ports[name]}",
        "dfs.datanode.http.address": f"{HOST}:{ports[name + '-http']}",
        "dfs.datanode.ipc.address": f"{HOST}:{ports[name + '-ipc']}",
    }
    options = [part for key, value in properties.items() for part in ("-D", f"{key}={value}")]
    main = "org.apache.hadoop.hdfs.server.datanode.DataNode"
    return java(configure(settings), main, *options, options=small(192))


def _check_names(settings: Settings) -> None:
    port = settings.ports["webhdfs"]
    state = _measure(port, "NameNode", "FSNamesystemState", "FSState")
    if state != "Operational":
        raise NotReadyError(f"is in the state {state}")
    get_json(f"http://{HOST}:{port}/webhdfs/v1/?op=LISTSTATUS")


def _check_data(settings: Settings, name: str) -> None:
    # A DataNode that hears from its NameNode: the other way round, one that has just been
    # started again would pass for the one before it.
    port = settings.ports[f"{name}-http"]
    actors = json.loads(_measure(port, "DataNode", "DataNodeInfo", "BPServiceActorInfo"))
    if not any(
        actor["ActorState"] == "RUNNING" and int(actor["LastHeartbeatResponseTime"]) <= 5
        for actor in actors
    ):
        raise NotReadyError("does not hear from the NameNode")


def _measure(port: int, service: str, bean: str, name: str) -> str:
    """What a server says about itself; parts of it come late in its start."""
    url = f"http://{HOST}:{port}/jmx?qry=Hadoop:service={service},name={bean}"
    try:
        return str(get_json(url)["beans"][0][name])
    except (IndexError, KeyError) as exc:
        raise NotReadyError("is starting") from exc
