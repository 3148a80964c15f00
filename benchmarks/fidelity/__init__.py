"""Our preprocessing of real frames against other libraries, step by step."""
