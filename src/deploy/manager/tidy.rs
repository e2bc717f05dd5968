//! Removing what no release needs any more: containers first, then their images.

use super::{Managed, release_of};
use crate::deploy::plan::{Found, sweep};

impl Managed {
    /// Brings the application's containers to what the roles of their releases say. Skipped while a
    /// launch is under way, something is not in the store yet, or the store was not read yet: it is
    /// called again from time to time.
    pub(super) async fn tidy(&self) {
        let Ok(_alone) = self.tidying.try_write() else {
            return;
        };
        let roles = {
            let state = self.state.lock();
            if state.pending.is_some() || !state.is_history_known {
                return;
            }
            state.roles(self.config.keep)
        };
        let found: Vec<Found> = self
            .containers()
            .iter()
            .filter_map(|view| {
                Some(Found {
                    workload: view.name.clone(),
                    hash: release_of(view)?,
                    image: view.image.clone(),
                    awake: matches!(view.phase, "ready" | "starting"),
                })
            })
            .collect();
        let swept = sweep(&found, &roles);
        for workload in &swept.rest {
            tracing::info!(app = %self.name, %workload, "put to sleep: nothing is routed to it");
            // A script may have sent requests to it by its name.
            self.fleet.rest(workload, self.config.drain_timeout);
        }
        for workload in &swept.remove {
            match self.fleet.remove(workload.as_str()).await {
                Ok(()) => tracing::info!(app = %self.name, %workload, "an old release was removed"),
                Err(error) => {
                    tracing::warn!(app = %self.name, %workload, %error, "an old release could not be removed");
                }
            }
        }
        for image in &swept.images {
            match self.runtime.remove_image(image).await {
                Ok(true) => {
                    tracing::info!(app = %self.name, image, "an old release's image was removed")
                }
                // Somebody else uses it.
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(app = %self.name, image, %error, "an old release's image could not be removed");
                }
            }
        }
        self.tell();
    }
}
