//! One binary of tests that speak the wire to a real server.
