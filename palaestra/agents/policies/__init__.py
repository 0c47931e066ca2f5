"""What acts: one file a kind of policy. A file whose engine is heavy is imported only when that policy is used."""
