//! Reloads of the daemon's settings.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::{runtime::Runtime, sync::watch};

/// Reloads the settings on request, and remembers whether the last reload succeeded.
pub(super) struct Reloader {
    succeeded: Arc<AtomicBool>,
}

impl Reloader {
    /// Calls `reload` at every change of `reloads`; it returns the settings that need a restart.
    pub(super) fn spawn(
        runtime: &Runtime,
        mut reloads: watch::Receiver<u64>,
        reload: impl Fn() -> anyhow::Result<Vec<String>> + Send + 'static,
    ) -> Self {
        let succeeded = Arc::new(AtomicBool::new(true));
        let is_valid = Arc::clone(&succeeded);
        runtime.spawn(async move {
            while reloads.changed().await.is_ok() {
                let outcome = reload();
                is_valid.store(outcome.is_ok(), Ordering::Relaxed);
                match outcome {
                    Ok(changed) if changed.is_empty() => {
                        tracing::info!("the settings were read again");
                    }
                    Ok(changed) => tracing::warn!(
                        "the settings were read again; a restart is needed for {}",
                        changed.join(", ")
                    ),
                    Err(error) => {
                        tracing::error!("reload failed, keeping the current settings: {error:#}");
                    }
                }
            }
        });
        Self { succeeded }
    }

    /// Whether the last reload succeeded.
    pub(super) fn succeeded(&self) -> bool {
        self.succeeded.load(Ordering::Relaxed)
    }
}
