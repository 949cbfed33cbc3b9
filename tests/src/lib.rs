//! Tests of the whole: separate processes, real servers. Nothing but tests.
