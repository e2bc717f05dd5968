//! The fake engine's images: which there are, what pulls are like, and what archives hold.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use super::{Call, Fake};
use crate::runtime::{ImageFacts, PullProgress, RegistryHealth, RuntimeError};

/// What pulls of one image are like.
#[derive(Debug, Clone, PartialEq)]
pub struct PullBehaviour {
    /// From the call to its end.
    pub delay: Duration,
    /// A pull goes no further while this is true, after the delay.
    pub held: bool,
    /// What every pull fails with, after the delay.
    pub error: Option<RuntimeError>,
    /// What progress is told of.
    pub bytes: u64,
}

impl Default for PullBehaviour {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            held: false,
            error: None,
            bytes: 1 << 20,
        }
    }
}

/// What is kept of an archive; the rest is read and dropped.
const ARCHIVE_BYTES_MAX: usize = 1 << 20;

impl Fake {
    /// From now on there is no such image, until it is pulled or loaded.
    pub fn without_image(&self, image: &str) {
        self.change(|state| state.missing_images.insert(image.to_owned()));
    }

    /// Whether the engine has this image: it has all but those that a test has taken away.
    pub fn has_image(&self, image: &str) -> bool {
        !self.state.lock().missing_images.contains(image)
    }

    /// Changes what pulls of this image are like. A pull that is not told otherwise succeeds.
    pub fn behave_pull(&self, image: &str, change: impl FnOnce(&mut PullBehaviour)) {
        self.change(|state| change(state.pulls.entry(image.to_owned()).or_default()));
    }

    /// What every load fails with from now on, after it has read the archive.
    pub fn fail_loads(&self, error: Option<RuntimeError>) {
        self.change(|state| state.load_error = error);
    }

    /// What is told of a registry from now on; all others are up.
    pub fn set_registry(&self, registry: &str, health: RegistryHealth) {
        self.change(|state| state.registries.insert(registry.to_owned(), health));
    }

    /// How often a pull of this image was asked.
    pub fn pulls(&self, image: &str) -> usize {
        let is_its = |call: &&Call| matches!(call, Call::Pull { image: of, .. } if of == image);
        self.state.lock().calls.iter().filter(is_its).count()
    }

    /// An archive that this engine loads: the references of its images, one a line.
    pub fn archive(references: &[&str]) -> BoxStream<'static, io::Result<Bytes>> {
        let text = references.join("\n");
        futures_util::stream::iter([Ok(Bytes::from(text))]).boxed()
    }

    pub(super) fn facts_of(&self, reference: &str) -> Option<ImageFacts> {
        self.has_image(reference).then(|| ImageFacts {
            id: format!("sha256:{:x}", Sha256::digest(reference)),
            size_bytes: Some(PullBehaviour::default().bytes),
        })
    }

    /// Ends when the caller drops it, as a real pull does.
    pub(super) async fn carry_out_pull(
        &self,
        image: &str,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<(), RuntimeError> {
        let like = |fake: &Fake| {
            fake.state
                .lock()
                .pulls
                .get(image)
                .cloned()
                .unwrap_or_default()
        };
        let PullBehaviour { delay, bytes, .. } = like(self);
        let tell = |line: &str, bytes_done| {
            progress(PullProgress {
                line: line.to_owned(),
                bytes_done,
                bytes_total: bytes,
            });
        };
        tell("downloading: 0 of 1 layers", 0);
        if !delay.is_zero() {
            sleep(delay / 2).await;
            tell("downloading: 0 of 1 layers", bytes / 2);
            sleep(delay / 2).await;
        }
        self.wait_until(|fake| !like(fake).held).await;
        self.reachable()?;
        if let Some(error) = like(self).error {
            return Err(error);
        }
        self.change(|state| state.missing_images.remove(image));
        tell("1 layer is there", bytes);
        Ok(())
    }

    pub(super) async fn carry_out_load(
        &self,
        mut archive: BoxStream<'static, io::Result<Bytes>>,
    ) -> Result<Vec<String>, RuntimeError> {
        let mut text = Vec::new();
        while let Some(part) = archive.next().await {
            let part = part.map_err(|error| {
                RuntimeError::Failed(format!("reading the archive failed: {error}"))
            })?;
            text.extend_from_slice(&part);
            text.truncate(ARCHIVE_BYTES_MAX);
        }
        self.reachable()?;
        if let Some(error) = self.state.lock().load_error.clone() {
            return Err(error);
        }
        let refused =
            || RuntimeError::Refused("this is no archive of the fake engine's".to_owned());
        let text = String::from_utf8(text).map_err(|_| refused())?;
        let loaded: Vec<String> = text.lines().map(str::to_owned).collect();
        if loaded.is_empty() {
            return Err(refused());
        }
        self.change(|state| {
            for image in &loaded {
                state.missing_images.remove(image);
            }
        });
        Ok(loaded)
    }

    pub(super) fn take_image_away(&self, reference: &str) -> bool {
        self.change(|state| {
            let mut all = state.containers.values();
            let is_used = all.any(|one| one.instance.image == reference);
            if !is_used {
                state.missing_images.insert(reference.to_owned());
            }
            !is_used
        })
    }
}
