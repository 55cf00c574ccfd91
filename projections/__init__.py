"""What can be seen: one file for each read model, and the engine that folds the log into them."""
