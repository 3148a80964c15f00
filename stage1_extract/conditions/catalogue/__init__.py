"""Our own conditions by name, and a user's. May import nuscenes/ and the rest of conditions/."""
