//! Launching a release: its configuration, its image, its container, its health.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::watch;

use super::state::{Candidate, FailedLaunch, LaunchPhase};
use super::views::Launched;
use super::{DeployError, Managed, now};
use crate::deploy::configuration::{LaunchConfiguration, Pull};
use crate::deploy::route::Release;
use crate::deploy::stats::Stats;
use crate::lifecycle::fleet::{OrderError, View};
use crate::names::{ReleaseHash, WorkloadName};
use crate::runtime::credentials::Credentials;
use crate::runtime::reference::{ImageReference, NotAReference};
use crate::runtime::{ImageFacts, InstanceId, PullProgress, RuntimeError};
use crate::spec::WorkloadSpec;

/// The last lines of a failed release's log that are told.
const LOG_LINES: usize = 50;

/// For a release without a health check of its own to become ready: what the scripts or the engine
/// say of its readiness has limits of its own, which are reached before.
const READY_TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// The largest credentials file, in bytes.
const CREDENTIALS_BYTES_MAX: u64 = 1 << 20;

/// What a launch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aim {
    /// Somebody has asked for it: its configuration says whether its image is pulled although the engine
    /// has one.
    Ordered,
    /// What was current, and has lost its container, is to be what it was. The image that the engine has
    /// will do, and a registry that is away does not matter then.
    Back,
}

impl Managed {
    /// Begins to launch a release, or joins its launch, and waits for the end of it.
    pub(super) async fn launch(
        self: &Arc<Self>,
        hash: &ReleaseHash,
    ) -> Result<Launched, DeployError> {
        self.launch_to(Aim::Ordered, hash).await
    }

    /// The same for a release that was current before.
    pub(super) async fn bring_back(
        self: &Arc<Self>,
        hash: &ReleaseHash,
    ) -> Result<Launched, DeployError> {
        self.launch_to(Aim::Back, hash).await
    }

    async fn launch_to(
        self: &Arc<Self>,
        aim: Aim,
        hash: &ReleaseHash,
    ) -> Result<Launched, DeployError> {
        let mut outcome = {
            let mut state = self.state.lock();
            match state.launching(hash) {
                Some(candidate) => candidate.outcome.subscribe(),
                None => {
                    let (outcome, watched) = watch::channel(None);
                    let phase = LaunchPhase::Configuring;
                    let candidate = Candidate { phase, outcome };
                    state.candidates.insert(hash.clone(), candidate);
                    self.spawn(self.clone().launch_to_the_end(aim, hash.clone()));
                    watched
                }
            }
        };
        self.tell();
        let told = outcome.wait_for(Option::is_some).await;
        told.ok()
            .and_then(|outcome| outcome.clone())
            // The manager ended, and the launch with it.
            .unwrap_or_else(|| Err(DeployError::Busy(self.name.clone())))
    }

    async fn launch_to_the_end(self: Arc<Self>, aim: Aim, hash: ReleaseHash) {
        let outcome = {
            let _staying = self.tidying.read().await;
            self.carry_out_launch(aim, &hash).await
        };
        match &outcome {
            Ok(launched) => tracing::info!(
                app = %self.name, release = hash.short(), revision = launched.revision,
                took_ms = launched.took_ms, "launched"
            ),
            Err(error) => tracing::warn!(
                app = %self.name, release = hash.short(), %error, "a launch failed"
            ),
        }
        {
            let mut state = self.state.lock();
            if let Err(error) = &outcome {
                let known = state.known.get(&hash);
                let revision = known.map(|known| known.revision.clone());
                state.remember_failure(FailedLaunch {
                    hash: hash.clone(),
                    revision: revision.unwrap_or_default(),
                    at: now(),
                    error: error.to_string(),
                    log: match error {
                        DeployError::NotHealthy { log, .. } => log.clone(),
                        _ => Vec::new(),
                    },
                });
                if let Some(candidate) = state.candidates.remove(&hash) {
                    candidate.outcome.send_replace(Some(outcome));
                }
            } else if let Some(candidate) = state.candidates.get_mut(&hash) {
                candidate.phase = LaunchPhase::Ready;
                candidate.outcome.send_replace(Some(outcome));
                if state.gets_requests(&hash) {
                    state.settle_candidate(&hash);
                }
            }
        }
        self.tell();
        self.tidy().await;
    }

    /// Waits until a container of this release that is being removed is gone.
    async fn gone(&self, hash: &ReleaseHash) {
        let mut changes = self.changed.subscribe();
        while self.state.lock().leaving.contains(hash) {
            // It ends with its sender, which is this application's own.
            let _ = changes.changed().await;
        }
    }

    /// Everything from the stored bytes to a healthy container. On an error nothing that it has made
    /// is left.
    async fn carry_out_launch(
        &self,
        aim: Aim,
        hash: &ReleaseHash,
    ) -> Result<Launched, DeployError> {
        let began = self.clock.now();
        let (release, mut configuration, mut warnings) = self.read(hash).await?;
        if aim == Aim::Back {
            configuration.pull = Pull::Missing;
        }
        self.gone(hash).await;
        let existing = self.listed_container(hash).await?;
        let image = &release.spec.image;
        let was_there = match &existing {
            Some(view) => {
                let another = self.another_image(hash, &configuration, image, view);
                warnings.extend(another.await);
                warnings.extend(self.another_environment(&release.spec, view).await);
                None
            }
            None => self.image(image).await?,
        };
        let has_image = existing.is_some() || was_there.is_some();
        let launched = self
            .launch_with(hash, &release, &configuration, existing.as_ref(), has_image)
            .await;
        if launched.is_err() && existing.is_none() {
            self.leave_image(image, was_there.as_ref()).await;
        }
        Ok(Launched {
            app: self.name.clone(),
            hash: hash.clone(),
            revision: release.revision.clone(),
            workload: launched?,
            image: image.clone(),
            existing: existing.is_some(),
            warnings,
            took_ms: self.clock.now().since(began).as_millis() as u64,
        })
    }

    /// From the image to the healthy container, whose name it gives.
    async fn launch_with(
        &self,
        hash: &ReleaseHash,
        release: &Release,
        configuration: &LaunchConfiguration,
        existing: Option<&View>,
        has_image: bool,
    ) -> Result<WorkloadName, DeployError> {
        if existing.is_none() {
            let image = &release.spec.image;
            if !has_image || configuration.pull == Pull::Always {
                self.bring_image(hash, configuration, image).await?;
            }
            self.advance(hash, LaunchPhase::Creating);
            self.fleet.deploy(release.spec.clone(), false).await?;
        }
        let workload = existing.map_or_else(|| release.workload.clone(), |view| view.name.clone());
        self.advance(hash, LaunchPhase::Checking);
        let health_timeout = configuration.health_timeout(&self.given());
        if let Err(error) = self.wake(hash, &workload, health_timeout).await {
            // Only what this launch has made is taken away again.
            if existing.is_none()
                && let Err(error) = self.fleet.remove(workload.as_str()).await
            {
                tracing::warn!(%workload, %error, "a release that did not get healthy could not be removed");
            }
            return Err(error);
        }
        Ok(workload)
    }

    pub(super) async fn image(&self, image: &str) -> Result<Option<ImageFacts>, DeployError> {
        let there = self.runtime.image(image).await;
        there.map_err(|error| image_error(image, &error))
    }

    /// After a launch that has no use for what it has brought: that is to go, and its name means again what it meant
    /// before, since other releases may be made of that.
    pub(super) async fn leave_image(&self, image: &str, before: Option<&ImageFacts>) {
        // Removed when no launch is under way: another one may be about to use it.
        let leave = |image: &str| self.state.lock().left_images.insert(image.to_owned());
        let Some(before) = before else {
            leave(image);
            return;
        };
        let now = match self.runtime.image(image).await {
            Ok(Some(now)) if before.id != now.id => now,
            _ => return,
        };
        match self.runtime.name_image(&before.id, image).await {
            Ok(()) => {
                leave(&now.id);
            }
            Err(error) => {
                tracing::warn!(
                    app = %self.name, image, %error,
                    "the image of a launch that has no use for it keeps its name, which another one had before"
                );
            }
        }
    }

    /// Starts a release's container and waits until it is healthy, at most for `health_timeout`; where
    /// that is not known, its container says itself how to know.
    pub(super) async fn wake(
        &self,
        hash: &ReleaseHash,
        workload: &WorkloadName,
        health_timeout: Option<Duration>,
    ) -> Result<(), DeployError> {
        let limit = health_timeout.unwrap_or(READY_TIMEOUT_MAX) + self.start_timeout;
        let started = self.fleet.start(workload.as_str(), Some(limit)).await;
        let error = match started {
            Ok(_) => {
                self.state.lock().unhealthy.remove(hash);
                return Ok(());
            }
            Err(error @ (OrderError::EngineUnreachable(_) | OrderError::Refused(_))) => {
                return Err(DeployError::Order(error));
            }
            Err(error) => error,
        };
        self.state.lock().unhealthy.insert(hash.clone());
        Err(DeployError::NotHealthy {
            hash: hash.clone(),
            reason: error.to_string(),
            log: self.log_of(workload).await,
        })
    }

    async fn log_of(&self, workload: &WorkloadName) -> Vec<String> {
        let Some(view) = self.fleet.view(workload.as_str()) else {
            return Vec::new();
        };
        let id = InstanceId::new(&view.id);
        match self.runtime.logs(&id, LOG_LINES).await {
            Ok(lines) => lines,
            Err(error) => vec![format!("(its log cannot be read: {error})")],
        }
    }

    fn advance(&self, hash: &ReleaseHash, phase: LaunchPhase) {
        if let Some(candidate) = self.state.lock().candidates.get_mut(hash) {
            candidate.phase = phase;
        }
        self.tell();
    }

    /// What the store has of a release, and what is made of it.
    pub(super) async fn read(
        &self,
        hash: &ReleaseHash,
    ) -> Result<(Arc<Release>, LaunchConfiguration, Vec<String>), DeployError> {
        let bytes = self.store.configuration(hash).await?;
        let (configuration, warnings) = LaunchConfiguration::read(&bytes)?;
        let spec = self.admitted(&configuration, hash)?;
        let release = self.know(hash, &configuration.revision, spec);
        Ok((release, configuration, warnings))
    }

    /// The release with what is counted of it, which stays the same from one launch to the next.
    pub(super) fn know(
        &self,
        hash: &ReleaseHash,
        revision: &str,
        spec: WorkloadSpec,
    ) -> Arc<Release> {
        let mut state = self.state.lock();
        let known = state.known.get(hash);
        if let Some(known) = known.filter(|known| known.spec == spec) {
            return known.clone();
        }
        let stats = known.map_or_else(|| Arc::new(Stats::default()), |known| known.stats.clone());
        let release = Arc::new(Release {
            app: self.name.clone(),
            hash: hash.clone(),
            revision: revision.to_owned(),
            workload: spec.name.clone(),
            spec,
            stats,
        });
        state.known.insert(hash.clone(), release.clone());
        release
    }

    /// A release that is known, or read from the store.
    pub(super) async fn known(&self, hash: &ReleaseHash) -> Result<Arc<Release>, DeployError> {
        let known = self.state.lock().known.get(hash).cloned();
        match known {
            Some(known) => Ok(known),
            None => Ok(self.read(hash).await?.0),
        }
    }

    /// The specification of a release's container, if the policy lets it be.
    pub(super) fn admitted(
        &self,
        configuration: &LaunchConfiguration,
        hash: &ReleaseHash,
    ) -> Result<WorkloadSpec, DeployError> {
        let spec = configuration.spec(&self.name, hash, &self.given());
        let admitted = self.policy.admit(spec);
        admitted.map_err(|refusals| OrderError::NotAllowed(refusals).into())
    }

    /// Pulls the image, or loads it from the store.
    pub(super) async fn bring_image(
        &self,
        hash: &ReleaseHash,
        configuration: &LaunchConfiguration,
        image: &str,
    ) -> Result<(), DeployError> {
        if let Some(key) = &configuration.archive {
            return self.load(hash, key, image).await;
        }
        let credentials = self.credentials().await?;
        let unusable = |reason: String| DeployError::Image {
            image: image.to_owned(),
            reason,
            away: false,
        };
        let reference: ImageReference = image
            .parse()
            .map_err(|error: NotAReference| unusable(error.to_string()))?;
        let credentials = match &credentials {
            Some(credentials) => credentials.for_image(&reference).map_err(unusable)?,
            None => None,
        };
        self.advance(
            hash,
            LaunchPhase::Pulling {
                detail: format!("pulling {image}"),
            },
        );
        let progress = |progress: PullProgress| {
            let detail = progress.line;
            self.advance(hash, LaunchPhase::Pulling { detail });
        };
        let pulled = self.runtime.pull(image, credentials, &progress).await;
        pulled.map_err(|error| image_error(image, &error))
    }

    async fn load(&self, hash: &ReleaseHash, key: &str, image: &str) -> Result<(), DeployError> {
        self.advance(
            hash,
            LaunchPhase::Pulling {
                detail: format!("loading {key} from the store"),
            },
        );
        let archive = self.store.artefact(key).await?;
        let bytes = archive.bytes.map_err(std::io::Error::other).boxed();
        let loaded = self.runtime.load(bytes).await;
        let loaded = loaded.map_err(|error| image_error(image, &error))?;
        if self.image(image).await?.is_some() {
            return Ok(());
        }
        Err(DeployError::Image {
            image: image.to_owned(),
            reason: format!(
                "the archive {key:?} does not have it; it has {}",
                loaded.join(", ")
            ),
            away: false,
        })
    }

    /// Read at each pull, so that a file that is renewed counts.
    async fn credentials(&self) -> Result<Option<Credentials>, DeployError> {
        let Some(path) = &self.config.registry_credentials else {
            return Ok(None);
        };
        let read = async {
            let size = tokio::fs::metadata(path).await.map_err(|e| e.to_string())?;
            if size.len() > CREDENTIALS_BYTES_MAX {
                return Err(format!("it has more than {CREDENTIALS_BYTES_MAX} bytes"));
            }
            let bytes = tokio::fs::read(path).await.map_err(|e| e.to_string())?;
            Credentials::read(&bytes)
        };
        read.await.map(Some).map_err(|reason| DeployError::Image {
            image: self.config.registry.clone(),
            reason: format!("the credentials file {}: {reason}", path.display()),
            away: false,
        })
    }
}

fn image_error(image: &str, error: &RuntimeError) -> DeployError {
    if let RuntimeError::Unreachable(_) = error {
        return DeployError::Order(OrderError::EngineUnreachable(error.to_string()));
    }
    DeployError::Image {
        image: image.to_owned(),
        reason: error.to_string(),
        away: matches!(error, RuntimeError::RegistryUnreachable(_)),
    }
}
