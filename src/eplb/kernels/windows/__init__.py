"""Planning for what the next window may bring: scenarios, the search over them, budgets of moves, forecasts."""
