"""Whether measured numbers can be what they are said to be: ours, or anybody's."""
