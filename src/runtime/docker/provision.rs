//! What a first run needs on the engine: an image from one executable, and a network.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::models::NetworkCreateRequest;
use bollard::query_parameters::CreateImageOptionsBuilder;
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::{Docker, Subject, segment};
use crate::runtime::RuntimeError;

/// The label of an imported image that tells what it was made from.
pub const CONTENT_LABEL: &str = "wakegate.content";

/// For a whole import; the engine unpacks and stores what it is sent.
const IMPORT_LIMIT: Duration = Duration::from_secs(600);

const CHUNK_BYTES: usize = 256 << 10;
const TAR_BLOCK_BYTES: u64 = 512;

impl Docker {
    /// Makes the image `name` (`name[:tag]`) from nothing but one static executable, which lands
    /// at the path `entrypoint[0]`, with an empty `/tmp`. Answers false, and does nothing, when
    /// the image of that name was made from the same content in the same way.
    ///
    /// The file is streamed. `progress` is told the bytes that are on their way and the total.
    /// An older image of ours that loses its name to this one is removed unless it is in use.
    pub async fn import_image(
        &self,
        executable: &Path,
        name: &str,
        entrypoint: &[&str],
        port: u16,
        progress: impl FnMut(u64, u64) + Send + 'static,
    ) -> Result<bool, RuntimeError> {
        let unreadable = |error: io::Error| {
            RuntimeError::Failed(format!("cannot read {}: {error}", executable.display()))
        };
        let Some(path_in_image) = entrypoint.first().and_then(|path| path.strip_prefix('/')) else {
            return Err(RuntimeError::Refused(
                "an entrypoint begins with the executable's absolute path in the image".to_owned(),
            ));
        };
        let content = content_hash(executable.to_owned(), entrypoint, port)
            .await
            .map_err(unreadable)?;
        let before = self.image_content(name).await?;
        if before
            .as_ref()
            .is_some_and(|(_, label)| label.as_ref() == Some(&content))
        {
            return Ok(false);
        }
        let file = tokio::fs::File::open(executable)
            .await
            .map_err(unreadable)?;
        let bytes = file.metadata().await.map_err(unreadable)?.len();
        let body = tar_stream(file, bytes, path_in_image, progress)?;
        let (repo, tag) = repo_and_tag(name)?;
        let entrypoint_json = serde_json::to_string(entrypoint)
            .map_err(|error| RuntimeError::Failed(error.to_string()))?;
        let options = CreateImageOptionsBuilder::default()
            .from_src("-")
            .repo(repo)
            .tag(tag)
            .changes(vec![
                format!("ENTRYPOINT {entrypoint_json}"),
                format!("EXPOSE {port}/tcp"),
                format!("LABEL {CONTENT_LABEL}={content}"),
            ])
            .build();
        let import = self
            .client
            .create_image(Some(options), Some(bollard::body_try_stream(body)), None)
            .try_for_each(|_| async { Ok(()) });
        self.within(IMPORT_LIMIT, import)
            .await?
            .map_err(|error| super::runtime_error(error, Subject::Engine))?;
        if let Some((old_id, Some(_))) = before {
            // It may be in use, or have other names; then it stays.
            if let Err(error) = self.delete_image(&old_id).await {
                tracing::debug!(%error, old_id, "the older image stays");
            }
        }
        Ok(true)
    }

    /// Makes an attachable bridge network with the ownership label; answers false when there is
    /// a network of that name.
    pub async fn ensure_network(&self, name: &str) -> Result<bool, RuntimeError> {
        if self.network_labels(name).await?.is_some() {
            return Ok(false);
        }
        let (key, value) = self.label.clone();
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            attachable: Some(true),
            labels: Some(HashMap::from([(key, value)])),
            ..NetworkCreateRequest::default()
        };
        let create = self.client.create_network(request);
        match self.call(Subject::Network(name), create).await {
            Ok(_) => Ok(true),
            // Someone else was faster.
            Err(RuntimeError::Refused(message)) if message.contains("already exists") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes a network that has the ownership label. Success when there is none of that name.
    ///
    /// Errors: `Refused` when it is not ours, or while a container is on it.
    pub async fn remove_network(&self, name: &str) -> Result<(), RuntimeError> {
        let (key, value) = &self.label;
        match self.network_labels(name).await? {
            None => return Ok(()),
            Some(labels) if labels.get(key) == Some(value) => {}
            Some(_) => {
                return Err(RuntimeError::Refused(format!(
                    "the network {name:?} does not have the label {key}={value}"
                )));
            }
        }
        let path_name = network_segment(name)?;
        let remove = self.client.remove_network(&path_name);
        match self.call(Subject::Network(name), remove).await {
            Err(RuntimeError::NetworkMissing(_)) => Ok(()),
            other => other,
        }
    }

    /// A network's labels; `None` when there is no such network.
    async fn network_labels(
        &self,
        name: &str,
    ) -> Result<Option<HashMap<String, String>>, RuntimeError> {
        let path_name = network_segment(name)?;
        let inspect = self.client.inspect_network(&path_name, None);
        match self.call(Subject::Network(name), inspect).await {
            Ok(network) => Ok(Some(network.labels.unwrap_or_default())),
            Err(RuntimeError::NetworkMissing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// An image's id and content label; `None` when there is no such image.
    async fn image_content(
        &self,
        name: &str,
    ) -> Result<Option<(String, Option<String>)>, RuntimeError> {
        let image = self.inspect_image(name).await?;
        Ok(image.map(|image| {
            let labels = image.config.and_then(|config| config.labels);
            let content = labels.and_then(|mut labels| labels.remove(CONTENT_LABEL));
            (image.id.unwrap_or_default(), content)
        }))
    }
}

fn network_segment(name: &str) -> Result<String, RuntimeError> {
    segment(name).ok_or_else(|| RuntimeError::Refused(format!("{name:?} cannot name a network")))
}

/// `host:5000/name:tag` as name and tag; the tag is `latest` when there is none.
pub(super) fn repo_and_tag(name: &str) -> Result<(&str, &str), RuntimeError> {
    if name.contains('@') {
        return Err(RuntimeError::Refused(format!(
            "{name:?} names an image by its digest, which a new one cannot have"
        )));
    }
    Ok(match name.rsplit_once(':') {
        Some((repo, tag)) if !tag.contains('/') => (repo, tag),
        _ => (name, "latest"),
    })
}

/// SHA-256 over all that the image is made of, in hex.
async fn content_hash(executable: PathBuf, entrypoint: &[&str], port: u16) -> io::Result<String> {
    let recipe = format!("{entrypoint:?} {port}\n");
    let hashing = tokio::task::spawn_blocking(move || {
        let mut hasher = Sha256::new_with_prefix(recipe);
        io::copy(&mut std::fs::File::open(executable)?, &mut hasher)?;
        Ok(format!("{:x}", hasher.finalize()))
    });
    hashing.await.map_err(io::Error::other)?
}

/// The image's file system as a tar archive, read from the file as the engine takes it.
fn tar_stream(
    file: tokio::fs::File,
    bytes: u64,
    path: &str,
    mut progress: impl FnMut(u64, u64) + Send + 'static,
) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + 'static, RuntimeError> {
    let failed = |error: io::Error| RuntimeError::Failed(format!("cannot pack {path:?}: {error}"));
    let mut head = Vec::new();
    head.extend(tar_header("tmp/", tar::EntryType::Directory, 0o1777, 0).map_err(failed)?);
    // Folders that an archive does not have are made readable for root only.
    for (at, _) in path.match_indices('/') {
        let folder = tar_header(&path[..=at], tar::EntryType::Directory, 0o755, 0);
        head.extend(folder.map_err(failed)?);
    }
    head.extend(tar_header(path, tar::EntryType::Regular, 0o755, bytes).map_err(failed)?);
    // The last block is filled up, and two empty blocks are the end (POSIX ustar).
    let padding = bytes.next_multiple_of(TAR_BLOCK_BYTES) - bytes;
    let tail = vec![0; (padding + 2 * TAR_BLOCK_BYTES) as usize];
    let mut done = 0;
    progress(0, bytes);
    let content = ReaderStream::with_capacity(file.take(bytes), CHUNK_BYTES).inspect_ok(
        move |chunk: &Bytes| {
            done += chunk.len() as u64;
            progress(done, bytes);
        },
    );
    let whole = |part: Vec<u8>| stream::iter([Ok(Bytes::from(part))]);
    Ok(whole(head).chain(content).chain(whole(tail)))
}

fn tar_header(
    path: &str,
    kind: tar::EntryType,
    mode: u32,
    bytes: u64,
) -> io::Result<[u8; TAR_BLOCK_BYTES as usize]> {
    let mut header = tar::Header::new_gnu();
    header.set_path(path)?;
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(bytes);
    header.set_uid(0);
    header.set_gid(0);
    // A fixed time: the same content makes the same image.
    header.set_mtime(0);
    header.set_cksum();
    Ok(*header.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_tag_is_what_follows_the_last_colon_behind_the_last_slash() {
        assert_eq!(repo_and_tag("shop"), Ok(("shop", "latest")));
        assert_eq!(repo_and_tag("shop:2"), Ok(("shop", "2")));
        assert_eq!(
            repo_and_tag("host:5000/shop"),
            Ok(("host:5000/shop", "latest"))
        );
        assert_eq!(
            repo_and_tag("host:5000/shop:2"),
            Ok(("host:5000/shop", "2"))
        );
        assert!(repo_and_tag("shop@sha256:00").is_err());
    }

    #[tokio::test]
    async fn the_archive_has_the_executable_and_tells_its_progress() {
        // Not a multiple of a block, and more than one chunk.
        let content: Vec<u8> = (0..CHUNK_BYTES + 1000).map(|i| i as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let bytes = content.len() as u64;
        let (tell, told) = std::sync::mpsc::channel();
        let progress = move |done, total| tell.send((done, total)).unwrap();
        let file = tokio::fs::File::from_std(file);
        let parts: Vec<Bytes> = tar_stream(file, bytes, "usr/bin/app", progress)
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        let archive = parts.concat();
        let mut entries = Vec::new();
        for entry in tar::Archive::new(archive.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut read = Vec::new();
            entry.read_to_end(&mut read).unwrap();
            let path = entry.path().unwrap().display().to_string();
            entries.push((path, entry.header().mode().unwrap(), read));
        }
        let folder = |path: &str, mode| (path.to_owned(), mode, Vec::new());
        assert_eq!(
            entries,
            [
                folder("tmp/", 0o1777),
                folder("usr/", 0o755),
                folder("usr/bin/", 0o755),
                ("usr/bin/app".to_owned(), 0o755, content),
            ]
        );
        let told: Vec<(u64, u64)> = told.iter().collect();
        assert_eq!(told.first(), Some(&(0, bytes)));
        assert_eq!(told.last(), Some(&(bytes, bytes)));
        assert!(told.is_sorted() && told.len() > 2, "{told:?}");
    }

    #[tokio::test]
    async fn the_content_hash_is_of_file_entrypoint_and_port() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app");
        std::fs::write(&path, "one").unwrap();
        let hash = |entrypoint: &'static [&'static str], port| {
            content_hash(path.clone(), entrypoint, port)
        };
        let first = hash(&["/app"], 80).await.unwrap();
        assert_eq!(first.len(), 64);
        assert_eq!(hash(&["/app"], 80).await.unwrap(), first);
        assert_ne!(hash(&["/app"], 81).await.unwrap(), first);
        assert_ne!(hash(&["/app", "x"], 80).await.unwrap(), first);
        std::fs::write(&path, "two").unwrap();
        assert_ne!(hash(&["/app"], 80).await.unwrap(), first);
    }
}
