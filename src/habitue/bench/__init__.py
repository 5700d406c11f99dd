"""A stranger's file in, an honest table of every model out: ranking, tasks and speed, each one file."""
