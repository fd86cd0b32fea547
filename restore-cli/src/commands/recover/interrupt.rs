//! Ctrl-C: work that can be taken up again stops cleanly; everything else ends at once.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use lifeboat_schema::Exit;

use crate::output;

/// Whether work is under way that looks at [`STOP`].
static IS_WORKING: AtomicBool = AtomicBool::new(false);
/// Whether that work should stop.
static STOP: AtomicBool = AtomicBool::new(false);

/// Watches for interrupts until the process ends.
pub(super) fn watch() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        std::thread::spawn(|| {
            // Without a runtime the system's own way stays: the process ends.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                while tokio::signal::ctrl_c().await.is_ok() {
                    if !IS_WORKING.load(Ordering::SeqCst) || STOP.swap(true, Ordering::SeqCst) {
                        output::note("");
                        std::process::exit(Exit::Interrupted.code().into());
                    }
                    output::note("Stopping; Ctrl-C once more ends it at once.");
                }
            });
        });
    });
}

/// Work that an interrupt stops.
pub(super) struct Stoppable;

impl Stoppable {
    /// Begins the work.
    pub(super) fn begin() -> Self {
        STOP.store(false, Ordering::SeqCst);
        IS_WORKING.store(true, Ordering::SeqCst);
        Self
    }

    /// Returns the flag that says when to stop.
    pub(super) fn flag(&self) -> &'static AtomicBool {
        &STOP
    }
}

impl Drop for Stoppable {
    fn drop(&mut self) {
        IS_WORKING.store(false, Ordering::SeqCst);
    }
}
