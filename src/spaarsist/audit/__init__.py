"""What takes a look inside, with torch: what back-ends cost, how fast they are, which nodes survive, what was found."""
