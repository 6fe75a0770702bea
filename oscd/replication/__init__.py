"""How nodes become equal: each reads the others' logs and takes in what it lacks. See `DESIGN.md` beside this."""
