"""Pages to which signing in and out redirect."""

HOME, LOGIN, PROFILE = "/", "/login/", "/profile/"
