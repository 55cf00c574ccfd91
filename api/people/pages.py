"""Pages that signing in and out lead to."""

HOME, LOGIN, PROFILE = "/", "/login/", "/profile/"
