//! Images on the engine: which there are, from archives, and away again.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{BuildInfo, ImageInspect};
use bollard::query_parameters::{
    ImportImageOptionsBuilder, ListContainersOptionsBuilder, RemoveImageOptionsBuilder,
    TagImageOptionsBuilder,
};
use bytes::Bytes;
use futures_util::stream::{BoxStream, Stream, StreamExt};
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::{Instant, timeout_at};

use super::provision::repo_and_tag;
use super::{Docker, Subject, runtime_error, says};
use crate::runtime::{ImageFacts, Runtime, RuntimeError};

/// For calls that take as long as there is something to move: the longest without any.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The most images of one archive that are told.
const LOADED_MAX: usize = 1_000;

/// When something last moved.
#[derive(Debug, Clone)]
pub(super) struct Moved(Arc<Mutex<Instant>>);

impl Moved {
    pub(super) fn now() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn again(&self) {
        *self.0.lock() = Instant::now();
    }

    /// When it has been silent for too long, unless something moves until then.
    fn deadline(&self) -> Instant {
        *self.0.lock() + SILENCE_MAX
    }
}

impl Docker {
    pub(super) async fn image_facts(
        &self,
        reference: &str,
    ) -> Result<Option<ImageFacts>, RuntimeError> {
        let found = self.inspect_image(reference).await?;
        Ok(found.map(|image| ImageFacts {
            id: image.id.unwrap_or_default(),
            size_bytes: image.size.and_then(|size| u64::try_from(size).ok()),
        }))
    }

    pub(super) async fn inspect_image(
        &self,
        name: &str,
    ) -> Result<Option<ImageInspect>, RuntimeError> {
        let path_name = image_path(name)?;
        let inspect = self.client.inspect_image(&path_name);
        match self.call(Subject::Image(name), inspect).await {
            Ok(image) => Ok(Some(image)),
            Err(RuntimeError::ImageMissing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn take_archive(
        &self,
        archive: BoxStream<'static, io::Result<Bytes>>,
    ) -> Result<Vec<String>, RuntimeError> {
        let moved = Moved::now();
        let unreadable = Arc::new(Mutex::new(None));
        let body = archive.inspect({
            let (moved, unreadable) = (moved.clone(), unreadable.clone());
            move |part| {
                moved.again();
                if let Err(error) = part {
                    *unreadable.lock() = Some(error.to_string());
                }
            }
        });
        let options = ImportImageOptionsBuilder::default().quiet(false).build();
        let body = bollard::body_try_stream(body);
        let mut answers = self.client.import_image(options, body, None).boxed();
        let loading = async {
            let mut loaded = Vec::new();
            while let Some(answer) = self
                .next_in_time(&mut answers, &moved, || {
                    RuntimeError::Failed(format!("it did not load an image: {}", silence()))
                })
                .await?
            {
                loaded.extend(loaded_images(&answer.map_err(load_error)?));
                loaded.truncate(LOADED_MAX);
            }
            Ok(loaded)
        };
        let loaded = loading.await;
        // The engine only sees that no more comes.
        if let Some(words) = unreadable.lock().take() {
            let words = format!("it was sent half an image: reading the archive failed: {words}");
            return Err(RuntimeError::Failed(words));
        }
        let loaded = loaded?;
        if loaded.is_empty() {
            let words = "the archive has no image in it".to_owned();
            return Err(RuntimeError::Refused(words));
        }
        Ok(loaded)
    }

    /// The next answer of a call without a time limit. When nothing moves for too long it is over:
    /// with `silent`, or with the engine's own silence where that is the reason.
    pub(super) async fn next_in_time<T>(
        &self,
        answers: &mut (impl Stream<Item = T> + Unpin),
        moved: &Moved,
        silent: impl FnOnce() -> RuntimeError,
    ) -> Result<Option<T>, RuntimeError> {
        loop {
            let deadline = moved.deadline();
            match timeout_at(deadline, answers.next()).await {
                Ok(answer) => {
                    moved.again();
                    return Ok(answer);
                }
                Err(_) if moved.deadline() > deadline => {}
                Err(_) => {
                    self.ping().await?;
                    return Err(silent());
                }
            }
        }
    }

    pub(super) async fn take_image_away(&self, reference: &str) -> Result<bool, RuntimeError> {
        let Some(image) = self.inspect_image(reference).await? else {
            return Ok(true);
        };
        // The engine would take a second name from an image that a container was made from.
        if self.is_used(&image.id.unwrap_or_default()).await? {
            return Ok(false);
        }
        match self.delete_image(reference).await {
            Ok(()) | Err(RuntimeError::ImageMissing(_)) => Ok(true),
            Err(RuntimeError::Refused(message)) if says(&message, "conflict") => {
                tracing::debug!(reference, message, "the engine keeps an image");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn tag_image(&self, id: &str, reference: &str) -> Result<(), RuntimeError> {
        let path_id = image_path(id)?;
        let (repo, tag) = repo_and_tag(reference)?;
        let options = TagImageOptionsBuilder::default()
            .repo(repo)
            .tag(tag)
            .build();
        let tagging = self.client.tag_image(&path_id, Some(options));
        self.call(Subject::Image(reference), tagging).await
    }

    /// Whether any container was made from it, running or not, ours or not.
    async fn is_used(&self, id: &str) -> Result<bool, RuntimeError> {
        let options = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&HashMap::from([("ancestor", vec![id.to_owned()])]))
            .build();
        let listing = self.client.list_containers(Some(options));
        let containers = self.call(Subject::Image(id), listing).await?;
        // The filter lets those of images that were built on it through.
        let mut images = containers.iter().filter_map(|one| one.image_id.as_deref());
        Ok(images.any(|image| image == id))
    }

    pub(super) async fn delete_image(&self, name: &str) -> Result<(), RuntimeError> {
        let path_name = image_path(name)?;
        let options = RemoveImageOptionsBuilder::default().build();
        let remove = self.client.remove_image(&path_name, Some(options), None);
        self.call(Subject::Image(name), remove).await?;
        Ok(())
    }
}

pub(super) fn silence() -> String {
    let limit = humantime::format_duration(SILENCE_MAX);
    format!("nothing moved for {limit}")
}

/// An image's name as a path of several segments.
pub(super) fn image_path(name: &str) -> Result<String, RuntimeError> {
    const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b':')
        .remove(b'@')
        .remove(b'/');
    let has_odd_segment = name.split('/').any(|part| matches!(part, "" | "." | ".."));
    if has_odd_segment {
        return Err(RuntimeError::Refused(format!(
            "{name:?} cannot name an image"
        )));
    }
    Ok(utf8_percent_encode(name, ESCAPED).to_string())
}

/// `Loaded image: shop:1` for each name, `Loaded image ID: sha256:…` for an image without one.
fn loaded_images(answer: &BuildInfo) -> Vec<String> {
    let text = answer.stream.as_deref().unwrap_or_default();
    let named = text.lines().filter_map(|line| {
        let name = line
            .strip_prefix("Loaded image: ")
            .or_else(|| line.strip_prefix("Loaded image ID: "))?;
        Some(name.trim().to_owned())
    });
    named.collect()
}

/// The engine tells what is wrong with an archive in its answer, and likewise what is wrong with
/// itself.
fn load_error(error: Error) -> RuntimeError {
    let words = match error {
        Error::DockerStreamError { error } => error,
        Error::DockerResponseServerError {
            status_code: 500,
            message,
        } => message,
        other => return runtime_error(other, Subject::Engine),
    };
    if says(&words, "no space left on device") {
        RuntimeError::Failed(words)
    } else {
        RuntimeError::Refused(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::runtime::RegistryHealth;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;
    use tokio::sync::watch;

    #[test]
    fn an_images_name_stays_below_images() {
        assert_eq!(
            image_path("host:5000/shop:2").as_deref(),
            Ok("host:5000/shop:2")
        );
        assert_eq!(image_path("a b?c").as_deref(), Ok("a%20b%3Fc"));
        for name in ["", "../x", "a/../../x", "a//b", "/a"] {
            assert!(image_path(name).is_err(), "{name}");
        }
    }

    #[test]
    fn what_was_loaded_is_read_from_the_engines_words() {
        let loaded = |stream: &str| {
            loaded_images(&BuildInfo {
                stream: Some(stream.to_owned()),
                ..BuildInfo::default()
            })
        };
        assert_eq!(
            loaded("Loaded image: localhost:1/a:2\n"),
            ["localhost:1/a:2"]
        );
        assert_eq!(loaded("Loaded image ID: sha256:00\n"), ["sha256:00"]);
        assert_eq!(
            loaded("Loaded image: a:1\nLoaded image: a:2\n"),
            ["a:1", "a:2"]
        );
        let renamed = "The image a:1 already exists, renaming the old one with ID sha256:00 to empty string\n";
        assert_eq!(loaded(renamed), [""; 0]);
        assert_eq!(loaded_images(&BuildInfo::default()), [""; 0]);
    }

    #[test]
    fn a_bad_archive_is_told_from_a_full_disk() {
        let said = |words: &str| {
            load_error(Error::DockerStreamError {
                error: words.to_owned(),
            })
        };
        // Docker 20.10.24.
        let bad = "Error processing tar file(exit status 1): archive/tar: invalid tar header";
        assert_eq!(said(bad), RuntimeError::Refused(bad.to_owned()));
        let full = "write /var/lib/docker/tmp/docker-import-1/layer.tar: no space left on device";
        assert_eq!(said(full), RuntimeError::Failed(full.to_owned()));
    }

    /// An engine that answers a ping and nothing else. Told of the bytes that it gets.
    fn deaf_engine(path: &std::path::Path) -> watch::Receiver<usize> {
        let listener = UnixListener::bind(path).unwrap();
        let (got, told) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let got = got.clone();
                tokio::spawn(async move {
                    let mut buffer = vec![0; 64 << 10];
                    while let Ok(read @ 1..) = client.read(&mut buffer).await {
                        got.send_modify(|bytes| *bytes += read);
                        let is_ping = buffer.starts_with(b"GET /_ping")
                            || buffer.windows(9).any(|part| part == b"/version ");
                        if is_ping {
                            let answer = "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Type: \
                                application/json\r\nContent-Length: 2\r\n\r\n{}";
                            client.write_all(answer.as_bytes()).await.unwrap();
                        }
                    }
                });
            }
        });
        told
    }

    fn docker(path: &std::path::Path) -> Docker {
        let config = config::Docker {
            host: format!("unix://{}", path.display()),
            network: None,
            timeout: Duration::from_secs(30),
        };
        Docker::connect(&config, ("wakegate.enable".to_owned(), "true".to_owned())).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_pull_of_which_nothing_is_heard_for_a_minute_is_the_registrys_failure() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.sock");
        let _got = deaf_engine(&path);
        let begin = Instant::now();
        let pulled = docker(&path)
            .pull("localhost:1/shop:1", None, &|_| {})
            .await;
        assert_eq!(
            pulled,
            Err(RuntimeError::RegistryUnreachable(
                "localhost:1/shop:1: nothing moved for 1m".to_owned()
            ))
        );
        assert_eq!(begin.elapsed().as_secs(), 60);

        let begin = Instant::now();
        let health = docker(&path).registry("localhost:1").await;
        let down = RegistryHealth::Down("no answer within 20s".to_owned());
        assert_eq!(health, Ok(down));
        assert_eq!(begin.elapsed().as_secs(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn an_archive_may_come_slowly_but_not_stop() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.sock");
        let mut got = deaf_engine(&path);
        let begin = Instant::now();
        // A part each half minute, five times, and then no more.
        let parts = futures_util::stream::unfold(0, |number| async move {
            match number {
                5 => std::future::pending().await,
                _ => tokio::time::sleep(SILENCE_MAX / 2).await,
            }
            Some((Ok(Bytes::from_static(b"part of an archive")), number + 1))
        });
        let loaded = docker(&path).load(parts.boxed()).await;
        assert_eq!(
            loaded,
            Err(RuntimeError::Failed(
                "it did not load an image: nothing moved for 1m".to_owned()
            ))
        );
        assert_eq!(begin.elapsed().as_secs(), 5 * 30 + 60);
        assert!(*got.borrow_and_update() > 5 * "part of an archive".len());
    }
}
