"""The table `calls`: made from a log, or from spans in ClickHouse, and queried with SQL."""
