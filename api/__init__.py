"""How people and programs reach crewlog: composition root, APIs, command line, page."""
