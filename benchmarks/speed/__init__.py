"""How fast and how large: measurements that write a table and JSON."""
