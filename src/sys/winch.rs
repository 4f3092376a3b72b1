//! SIGWINCH, heard for as long as a terminal is joined.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static RESIZED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: i32) {
    RESIZED.store(true, Ordering::Relaxed);
}

/// Hears SIGWINCH until dropped, then puts back who heard it before.
#[derive(Debug)]
pub struct Resizes(SigAction);

impl Resizes {
    /// Starts to listen. A blocking poll(2) is interrupted, for SA_RESTART is not set.
    pub fn listen() -> nix::Result<Self> {
        let action = SigAction::new(SigHandler::Handler(note), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler stores to an atomic and does nothing else.
        unsafe { sigaction(Signal::SIGWINCH, &action) }.map(Resizes)
    }

    /// Whether the window was resized since the last call.
    pub fn any(&self) -> bool {
        RESIZED.swap(false, Ordering::Relaxed)
    }
}

impl Drop for Resizes {
    fn drop(&mut self) {
        // SAFETY: puts back an action that was in force before.
        let restored = unsafe { sigaction(Signal::SIGWINCH, &self.0) };
        debug_assert!(restored.is_ok(), "an action that was in force is valid");
    }
}
