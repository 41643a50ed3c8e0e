//! More index blobs without epochs than any client should have, in the memory that is promised.
