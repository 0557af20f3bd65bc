"""The script for a DBA: what it says, and that tables made so are accepted.

There is no hbase shell among the stack's jars. So a small program does with HBase's own Java client
what the shell's ``create`` does with the same words.
"""

from __future__ import annotations

import re
import secrets
from contextlib import closing
from pathlib import Path

import pytest

from modelhub.backends.hbase_rows import HBaseRows
from modelhub.backends.hbase_schema import shell_script
from modelhub.coordinator import keys
from modelhub.errors import InvalidInput
from tests.live.hadoop import run_java
from tests.live.rows import Tables
from tests.live.stack import LiveStack

CREATE = re.compile(
    r"create '(?P<name>[^']+)', \{NAME => '(?P<family>\w+)', VERSIONS => (?P<versions>\d+), "
    r"BLOOMFILTER => '(?P<bloom>\w+)', COMPRESSION => compression\}"
    r"(?:, SPLITS => \[(?P<splits>'[^']+'(?:, '[^']+')*)\])?"
)
ADMIN = """
import java.util.Arrays;
import org.apache.hadoop.hbase.*;
import org.apache.hadoop.hbase.client.*;
import org.apache.hadoop.hbase.io.compress.Compression;
import org.apache.hadoop.hbase.regionserver.BloomType;
import org.apache.hadoop.hbase.util.Bytes;

public class ShellCommands {
  public static void main(String[] commands) throws Exception {
    try (Connection connection = ConnectionFactory.createConnection(HBaseConfiguration.create());
        Admin admin = connection.getAdmin()) {
      for (String command : commands) {
        String[] words = command.split(" ");
        TableName name = words[0].equals("create") ? TableName.valueOf(words[1]) : null;
        switch (words[0]) {
          case "create_namespace":
            admin.createNamespace(NamespaceDescriptor.create(words[1]).build());
            break;
          case "create":
            byte[][] splits = words.length == 6 ? null
                : Arrays.stream(words[6].split(",")).map(Bytes::toBytes).toArray(byte[][]::new);
            admin.createTable(
                TableDescriptorBuilder.newBuilder(name)
                    .setColumnFamily(
                        ColumnFamilyDescriptorBuilder.newBuilder(Bytes.toBytes(words[2]))
                            .setMaxVersions(Integer.parseInt(words[3]))
                            .setBloomFilterType(BloomType.valueOf(words[4]))
                            .setCompressionType(Compression.Algorithm.valueOf(words[5]))
                            .build())
                    .build(),
                splits);
            break;
          case "drop_namespace":
            for (TableName table : admin.listTableNamesByNamespace(words[1])) {
              if (admin.isTableEnabled(table)) admin.disableTable(table);
              admin.deleteTable(table);
            }
            admin.deleteNamespace(words[1]);
            break;
          default:
            throw new IllegalArgumentException(command);
        }
      }
    }
  }
}
"""


def commands(script: str) -> list[str]:
    """The script's lines as the program takes them; every line must be understood."""
    compression, found = "", []
    for line in script.splitlines():
        if line.startswith("compression = "):
            compression = line.split("'")[1]
        elif line.startswith("create_namespace "):
            found.append("create_namespace " + line.split("'")[1])
        elif not line.startswith("#"):
            parts = CREATE.fullmatch(line)
            assert parts, line
            splits = (parts["splits"] or "").replace("'", "").replace(" ", "")
            words = [parts["name"], parts["family"], parts["versions"], parts["bloom"], compression]
            found.append(" ".join(["create", *words, splits]).strip())
    return found


def test_tables_made_by_the_script_are_accepted_and_split(stack: LiveStack, tmp_path: Path) -> None:
    prefix = f"script_{secrets.token_hex(4)}:hub_"
    namespace = prefix.partition(":")[0]
    tables = ["chunks", "lookup", "system"]
    source = tmp_path / "ShellCommands.java"
    source.write_text(ADMIN)
    run_java(stack, source, *commands(shell_script(prefix, tables)))
    try:
        with closing(HBaseRows(stack.thrift_host, stack.thrift_port, prefix=prefix)) as store:
            store.create_tables(tables)
            regions = store.describe()["regions"]
            assert {name.removeprefix(prefix): count for name, count in regions.items()} == {
                "chunks": 16,
                "lookup": 3,
                "system": 1,
            }
            check_a_scan_goes_over_regions(store)
            assert store.now()
            raw = Tables(stack.thrift_host, stack.thrift_port, prefix)
            with closing(raw.connect()) as connection:
                (family,) = connection.table(f"{prefix}chunks").families().values()
            assert family["compression"] == b"GZ"
            assert family["bloom_filter_type"] == b"ROW"
            assert family["max_versions"] == 1
    finally:
        run_java(stack, source, f"drop_namespace {namespace}")


def check_a_scan_goes_over_regions(store: HBaseRows) -> None:
    rows = {
        keys.chunk(bytes([number % 256]) * 16 + b"%03d" % number): b"v" for number in range(999)
    }
    store.put_many("chunks", rows)
    assert list(store.scan("chunks", b"0", b"g")) == sorted(rows.items())
    assert store.get_many("chunks", list(rows)) == rows
    store.delete_many("chunks", rows)
    assert list(store.scan("chunks", b"0", b"g")) == []


def test_the_script_makes_every_table_and_its_namespace() -> None:
    made = commands(shell_script("models:", keys.TABLES))
    assert made[0] == "create_namespace models"
    assert [line.split()[1] for line in made[1:]] == [f"models:{table}" for table in keys.TABLES]
    assert {tuple(line.split()[2:6]) for line in made[1:]} == {("m", "1", "ROW", "GZ")}
    assert "create_namespace" not in shell_script("modelhub_", keys.TABLES)


def test_splits_spread_the_keys_that_there_are() -> None:
    made = {}
    for line in commands(shell_script("", keys.TABLES)):
        _, table, *words = line.split()
        made[table] = [split.encode() for split in words[4].split(",")] if len(words) > 4 else []

    def regions(table: str, rows: list[bytes]) -> set[int]:
        return {sum(key >= split for split in made[table]) for key in rows}

    names = [f"{letter}model" for letter in "09bdfhjlnprtvxz"]
    digests = [bytes([number]) * 32 for number in range(256)]
    assert len(regions("chunks", [keys.chunk(digest) for digest in digests])) == 16
    assert len(regions("packs", [keys.pack(digest.hex()) for digest in digests])) == 4
    shards = [keys.intent(f"model{number}", "t") for number in range(200)]
    assert len(regions("intents", shards)) == 4
    for table, key in (("log", keys.log), ("metadata", keys.version), ("versions", keys.version)):
        assert len(regions(table, [key(name, 1) for name in names])) == 4
    kinds = [keys.lookup(kind, "x", "model", 1) for kind in ("base", "content", "request")]
    assert len(regions("lookup", kinds)) == 3


@pytest.mark.parametrize("prefix", ["a'b", "hbase:", "x y"])
def test_a_prefix_that_is_none_makes_no_script(prefix: str) -> None:
    with pytest.raises(InvalidInput):
        shell_script(prefix, keys.TABLES)
