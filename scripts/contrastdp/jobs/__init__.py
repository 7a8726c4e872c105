"""How jobs run. Nothing here decides a result, so the code digest leaves it out."""
