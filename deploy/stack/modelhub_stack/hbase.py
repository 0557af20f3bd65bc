"""HBase: ZooKeeper, master and region server in one process, and the Thrift gateway."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from modelhub_stack import hdfs
from modelhub_stack.probe import NotReadyError, port_open, thrift_tables
from modelhub_stack.servers import Launch, Server
from modelhub_stack.settings import HOST, Settings


def hbase(settings: Settings) -> Server:
    """The store of rows."""
    server = Server("hbase", settings, partial(_prepare, settings), lambda: _check(server))
    return server


def thrift(settings: Settings) -> Server:
    """The gateway through which programs in other languages than Java use HBase."""
    port = settings.ports["thrift"]
    return Server(
        "thrift", settings, partial(_prepare_thrift, settings), partial(thrift_tables, port)
    )


def _prepare(settings: Settings) -> Launch:
    main = "org.apache.hadoop.hbase.master.HMaster"
    return hdfs.java(_configure(settings), main, "start", jars="hbase", options=hdfs.small(1024))


def _prepare_thrift(settings: Settings) -> Launch:
    return hdfs.java(
        _configure(settings),
        "org.apache.hadoop.hbase.thrift.ThriftServer",
        *("--port", str(settings.ports["thrift"]), "--bind", HOST, "--infoport", "-1", "start"),
        jars="hbase",
        options=hdfs.small(192),
    )


def _configure(settings: Settings) -> Path:
    ports, home = settings.ports, settings.home / "hbase"
    conf = home / "conf"
    conf.mkdir(parents=True, exist_ok=True)
    hdfs.write_sites(settings, conf)
    hdfs.site(
        conf / "hbase-site.xml",
        {
            "hbase.rootdir": f"hdfs://{HOST}:{ports['namenode']}/hbase",
            "hbase.cluster.distributed": "false",
            "hbase.tmp.dir": str(home / "work"),
            "hbase.wal.provider": "filesystem",
            "hbase.localcluster.assign.random.ports": "false",
            "hbase.zookeeper.quorum": HOST,
            "hbase.zookeeper.property.clientPort": ports["zookeeper"],
            "hbase.zookeeper.property.dataDir": f"{home}/zookeeper",
            "hbase.master.port": ports["hbase"],
            "hbase.regionserver.port": ports["hbase-region"],
            "hbase.master.hostname": HOST,
            "hbase.regionserver.hostname": HOST,
            "hbase.master.ipc.address": HOST,
            "hbase.regionserver.ipc.address": HOST,
            "hbase.master.info.port": -1,
            "hbase.regionserver.info.port": -1,
            # The one region server is in the same process: nobody else is waited for at a start,
            # and at a stop not for ZooKeeper, which is gone before it.
            "hbase.master.wait.on.regionservers.timeout": 100,
            "hbase.master.wait.on.regionservers.interval": 100,
            "zookeeper.recovery.retry": 1,
            # By default every region that was ever written to takes 2 MiB of heap, and reads take
            # 40 % of it: the tables of some hundred hubs would be too much.
            "hbase.hregion.memstore.mslab.enabled": "false",
            "hfile.block.cache.size": 0.2,
        },
    )
    return conf


def _check(server: Server) -> None:
    # The log is of the present process alone.
    if not port_open(server.port) or not _says(server.log, "Master has completed initialization"):
        raise NotReadyError("has not completed initialization")


def _says(log: Path, words: str) -> bool:
    if not log.exists():
        return False
    with log.open(errors="replace") as lines:
        return any(words in line for line in lines)
