"""What a clip shows, measured: lips, motion, identity, and how sure a mean of it is.

Everything here takes arrays that were measured on the decoded pixels of a file and returns plain
numbers; only `instrument` and `identity.embed` run a network. A clip that cannot be measured counts
as 0, never as absent.
"""
