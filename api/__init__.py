"""How people and programs reach it: the composition root, routes, command line, page."""
