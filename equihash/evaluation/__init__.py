"""How good a network is: while it trains, and on an indexed database."""
