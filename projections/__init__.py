"""What can be seen: one file a read model, and the engine that folds the log into them."""
