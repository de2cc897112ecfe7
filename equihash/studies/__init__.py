"""Studies of results that were evaluated: questions beyond how good one network is."""
