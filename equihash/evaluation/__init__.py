"""How good a network is, in numbers: while it trains, and on an indexed database."""
