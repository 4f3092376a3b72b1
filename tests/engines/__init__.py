"""Real engines with rscontainer in runc's place, and with runc: what they show must be the same."""
