"""What makes things happen: the dispatcher, the executors, and the policies that read the log."""
