//! The outbox loses no frame, no order and no wake-up.

#[cfg(feature = "loom")]
mod wake_up;

#[cfg(not(feature = "loom"))]
mod queue;
