"""Studies of many searches: methods compared with each other, and sweeps over budgets and devices."""
