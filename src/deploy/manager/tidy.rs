//! Removing what no release needs any more: containers first, then their images.

use std::collections::BTreeSet;

use super::views::Discarded;
use super::{DeployError, Managed, is_awake, release_of};
use crate::deploy::plan::{Found, Sweep, sweep};
use crate::names::{ReleaseHash, WorkloadName};
use crate::runtime::InstanceId;
use crate::store::StoreError;

impl Managed {
    /// Brings the application's containers to what the roles of their releases say. Skipped while a
    /// launch is under way, something is not in the store yet, or the store was not read yet: it is
    /// called again from time to time.
    pub(super) async fn tidy(&self) {
        let Some((swept, leaving)) = self.plan_tidying() else {
            return;
        };
        for workload in &swept.rest {
            tracing::info!(app = %self.name, %workload, "put to sleep: nothing is routed to it");
            // A script may have sent requests to it by its name.
            self.fleet.rest(workload, self.config.drain_timeout);
        }
        let mut images = swept.images;
        for (workload, hash) in leaving {
            images.extend(self.remove(&workload).await);
            self.state.lock().leaving.remove(&hash);
            // A launch may wait for that.
            self.tell();
        }
        self.remove_images(images).await;
        self.tell();
    }

    /// Lets a candidate go: unless going back leads to that release, nothing needs it any more.
    pub(super) async fn discard(&self, hash: &ReleaseHash) -> Result<Discarded, DeployError> {
        let _changing = self.changing().await?;
        let revision = {
            let mut state = self.state.lock();
            if state.gets_requests(hash) {
                return Err(DeployError::InUse(hash.clone()));
            }
            if state.launching(hash).is_some() {
                return Err(self.launching(hash));
            }
            if state.candidates.remove(hash).is_none() {
                return Err(DeployError::NoCandidate(hash.clone()));
            }
            let known = state.known.get(hash);
            known.map(|known| known.revision.clone())
        };
        tracing::info!(app = %self.name, release = hash.short(), "a release that was launched is discarded");
        self.tell();
        self.tidy().await;
        Ok(Discarded {
            app: self.name.clone(),
            hash: hash.clone(),
            revision: revision.unwrap_or_default(),
        })
    }

    /// What is to be done, and which containers leave with which release: nobody can switch to these
    /// from then on. It may take a while until they are gone.
    fn plan_tidying(&self) -> Option<(Sweep, Vec<(WorkloadName, ReleaseHash)>)> {
        let _alone = self.tidying.try_write().ok()?;
        let mut state = self.state.lock();
        if state.pending.is_some() || !state.is_history_known {
            return None;
        }
        state.remember_history();
        let mut found = self.found();
        found.retain(|container| !state.leaving.contains(&container.hash));
        let there: BTreeSet<ReleaseHash> = found
            .iter()
            .map(|container| container.hash.clone())
            .collect();
        state.forget_what_is_gone(&there);
        let swept = sweep(
            &found,
            &state.roles(self.config.keep, &there),
            &state.left_images,
        );
        state.left_images.clear();
        let leaving: Vec<_> = found
            .into_iter()
            .filter(|container| swept.remove.contains(&container.workload))
            .map(|container| (container.workload, container.hash))
            .collect();
        let hashes = leaving.iter().map(|(_, hash)| hash.clone());
        state.leaving.extend(hashes);
        Some((swept, leaving))
    }

    fn found(&self) -> Vec<Found> {
        self.containers()
            .iter()
            .filter_map(|view| {
                Some(Found {
                    workload: view.name.clone(),
                    hash: release_of(view)?,
                    image: view.image.clone(),
                    awake: is_awake(view),
                })
            })
            .collect()
    }

    /// Gives the image that only the container knew, if its name means another one by now.
    async fn remove(&self, workload: &WorkloadName) -> Option<String> {
        let unnamed = self.unnamed_image(workload).await;
        match self.fleet.remove(workload.as_str()).await {
            Ok(()) => {
                tracing::info!(app = %self.name, %workload, "an old release was removed");
                unnamed
            }
            Err(error) => {
                tracing::warn!(app = %self.name, %workload, %error, "an old release could not be removed");
                None
            }
        }
    }

    async fn unnamed_image(&self, workload: &WorkloadName) -> Option<String> {
        let view = self.fleet.view(workload.as_str())?;
        let id = InstanceId::new(&view.id);
        let made_of = self.runtime.image_of(&id).await.ok()??;
        let named = self.runtime.image(&view.image).await.ok()?;
        let is_other = named.is_none_or(|named| named.id != made_of);
        is_other.then_some(made_of)
    }

    /// Not while a launch is under way, which may be about to use one of them.
    async fn remove_images(&self, images: BTreeSet<String>) {
        if images.is_empty() {
            return;
        }
        // The store may be slow: launches, switches and going back do not wait for that.
        let unreadable = match self.know_what_is_in_use().await {
            Ok(unreadable) => unreadable,
            Err(error) => {
                tracing::debug!(app = %self.name, %error, "no image is removed: it is not known what releases without a container are made of");
                self.state.lock().left_images.extend(images);
                return;
            }
        };
        let Ok(_alone) = self.tidying.try_write() else {
            self.state.lock().left_images.extend(images);
            return;
        };
        let made: BTreeSet<String> = self
            .containers()
            .iter()
            .map(|view| view.image.clone())
            .collect();
        // Somebody may have removed the container of a release that gets requests or is gone back to.
        let needed = {
            let mut state = self.state.lock();
            let Some(needed) = state.images_in_use(&unreadable) else {
                state.left_images.extend(images);
                return;
            };
            needed
        };
        for image in images {
            if made.contains(&image) {
                // It is looked at again with its container.
                continue;
            }
            if needed.contains(&image) {
                self.state.lock().left_images.insert(image);
                continue;
            }
            match self.runtime.remove_image(&image).await {
                Ok(true) => {
                    tracing::info!(app = %self.name, image, "an image that no release needs any more was removed");
                }
                // Somebody else uses it.
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(app = %self.name, image, %error, "an image that no release needs any more could not be removed; that is tried again");
                    self.state.lock().left_images.insert(image);
                }
            }
        }
    }

    /// Reads what is not known yet of the releases that requests may go to. Gives those that cannot be
    /// read, which cannot be made again, with their image or without.
    async fn know_what_is_in_use(&self) -> Result<BTreeSet<ReleaseHash>, DeployError> {
        let mut unreadable = BTreeSet::new();
        let in_use = self.state.lock().in_use();
        for hash in in_use {
            match self.known(&hash).await {
                Err(DeployError::Store(error)) if is_passing(&error) => {
                    return Err(DeployError::Store(error));
                }
                Err(_) => drop(unreadable.insert(hash)),
                Ok(_) => {}
            }
        }
        Ok(unreadable)
    }
}

/// Whether the store may tell later what it does not tell now.
fn is_passing(error: &StoreError) -> bool {
    !matches!(
        error,
        StoreError::UnknownHash { .. }
            | StoreError::HashMismatch { .. }
            | StoreError::Malformed { .. }
            | StoreError::TooLarge { .. }
    )
}
