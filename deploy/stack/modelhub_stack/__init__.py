"""Real HDFS, HBase and Elasticsearch servers on this machine, without containers."""
