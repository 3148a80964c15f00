"""How fast stage 1 extracts, stage by stage, against the limits that the machine sets."""
