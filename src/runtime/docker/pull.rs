//! Images from registries: the engine pulls, and tells how far it is.

use std::collections::BTreeMap;
use std::time::Duration;

use bollard::BollardRequest;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::stream::StreamExt;
use http::HeaderValue;
use tokio::time::Instant;

use super::Docker;
use super::images::{Moved, silence};
use super::registry::pull_error;
use crate::runtime::credentials::RegistryCredentials;
use crate::runtime::reference::ImageReference;
use crate::runtime::{PullProgress, RuntimeError};

/// The shortest time between two reports of progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// The most layers that are counted; the engine itself takes no image with more than 127.
const LAYERS_MAX: usize = 1_000;

impl Docker {
    pub(super) async fn bring(
        &self,
        reference: &str,
        credentials: Option<&RegistryCredentials>,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<(), RuntimeError> {
        let image: ImageReference = reference
            .parse()
            .map_err(|error| RuntimeError::Refused(format!("{error}")))?;
        // Without a tag the engine would bring all of the repository's.
        let options = CreateImageOptionsBuilder::default()
            .from_image(&image.name())
            .tag(image.digest().or(image.tag()).unwrap_or_default())
            .build();
        let client = match credentials {
            None => self.client.clone(),
            Some(credentials) => {
                let mut header = HeaderValue::try_from(credentials.to_header(image.registry()))
                    .map_err(|error| RuntimeError::Failed(error.to_string()))?;
                header.set_sensitive(true);
                // The library writes this header in an alphabet that the engine does not read.
                self.client
                    .clone()
                    .with_request_modifier(move |mut request: BollardRequest| {
                        let headers = request.headers_mut();
                        headers.insert("x-registry-auth", header.clone());
                        request
                    })
            }
        };
        let mut tally = Tally::default();
        progress(tally.progress());
        let mut told_at = Instant::now();
        let moved = Moved::now();
        let mut answers = client.create_image(Some(options), None, None).boxed();
        while let Some(answer) = self
            .next_in_time(&mut answers, &moved, || {
                RuntimeError::RegistryUnreachable(format!("{reference}: {}", silence()))
            })
            .await?
        {
            let answer = answer.map_err(|error| pull_error(error, reference, credentials))?;
            tally.take(&answer);
            if told_at.elapsed() >= PROGRESS_EVERY {
                progress(tally.progress());
                told_at = Instant::now();
            }
        }
        progress(tally.progress());
        Ok(())
    }
}

/// What the engine has told of each layer.
#[derive(Debug, Default)]
struct Tally {
    layers: BTreeMap<String, Layer>,
    /// The engine tries again after a failure, and counts the seconds down.
    retrying: Option<String>,
}

#[derive(Debug, Default, PartialEq)]
struct Layer {
    stage: Stage,
    bytes_done: u64,
    bytes_total: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    #[default]
    Coming,
    Here,
    Unpacked,
}

impl Tally {
    /// Reads one line of the engine's. Lines about no layer, and unknown ones, say nothing here.
    fn take(&mut self, line: &CreateImageInfo) {
        let status = line.status.as_deref().unwrap_or_default();
        let stage = match status {
            "Pulling fs layer" | "Waiting" | "Downloading" => Stage::Coming,
            "Verifying Checksum" | "Download complete" | "Extracting" => Stage::Here,
            "Pull complete" | "Already exists" => Stage::Unpacked,
            _ if status.starts_with("Retrying") => {
                self.retrying = Some(status.to_lowercase());
                return;
            }
            _ => return,
        };
        let Some(id) = line.id.as_deref() else { return };
        self.retrying = None;
        if self.layers.len() >= LAYERS_MAX && !self.layers.contains_key(id) {
            return;
        }
        let layer = self.layers.entry(id.to_owned()).or_default();
        layer.stage = stage;
        let detail = line.progress_detail.as_ref();
        let bytes = |value: Option<i64>| value.and_then(|bytes| u64::try_from(bytes).ok());
        if let Some(total) = bytes(detail.and_then(|detail| detail.total)) {
            layer.bytes_total = total;
        }
        layer.bytes_done = match stage {
            Stage::Coming => bytes(detail.and_then(|detail| detail.current))
                .unwrap_or_default()
                .min(layer.bytes_total),
            Stage::Here | Stage::Unpacked => layer.bytes_total,
        };
    }

    fn progress(&self) -> PullProgress {
        let all = self.layers.len();
        let past = |stage| self.layers.values().filter(|it| it.stage >= stage).count();
        let (here, unpacked) = (past(Stage::Here), past(Stage::Unpacked));
        let line = match (all, &self.retrying) {
            (_, Some(retrying)) => format!("downloading: {here} of {all} layers, {retrying}"),
            (0, None) => "asking the registry".to_owned(),
            (_, None) if here < all => format!("downloading: {here} of {all} layers"),
            (_, None) if unpacked < all => format!("unpacking: {unpacked} of {all} layers"),
            (1, None) => "1 layer is there".to_owned(),
            (_, None) => format!("{all} layers are there"),
        };
        PullProgress {
            line,
            bytes_done: self.layers.values().map(|it| it.bytes_done).sum(),
            bytes_total: self.layers.values().map(|it| it.bytes_total).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::runtime::Runtime;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    /// Lines as Docker 20.10.24 sends them.
    fn told(lines: &[&str]) -> Tally {
        let mut tally = Tally::default();
        for line in lines {
            tally.take(&serde_json::from_str(line).unwrap());
        }
        tally
    }

    fn progress(line: &str, bytes_done: u64, bytes_total: u64) -> PullProgress {
        PullProgress {
            line: line.to_owned(),
            bytes_done,
            bytes_total,
        }
    }

    #[test]
    fn a_pull_is_counted_over_all_layers() {
        let steps = [
            (
                r#"{"status":"Pulling from wgtest/shop","id":"1"}"#,
                progress("asking the registry", 0, 0),
            ),
            (
                r#"{"status":"Already exists","progressDetail":{},"id":"a"}"#,
                progress("1 layer is there", 0, 0),
            ),
            (
                r#"{"status":"Pulling fs layer","progressDetail":{},"id":"b"}"#,
                progress("downloading: 1 of 2 layers", 0, 0),
            ),
            (
                r#"{"status":"Pulling fs layer","progressDetail":{},"id":"c"}"#,
                progress("downloading: 1 of 3 layers", 0, 0),
            ),
            (
                r#"{"status":"Downloading","progressDetail":{"current":69213,"total":5001730},"progress":"[\u003e ]","id":"b"}"#,
                progress("downloading: 1 of 3 layers", 69_213, 5_001_730),
            ),
            (
                r#"{"status":"Downloading","progressDetail":{"current":100,"total":900},"id":"c"}"#,
                progress("downloading: 1 of 3 layers", 69_313, 5_002_630),
            ),
            (
                r#"{"status":"Verifying Checksum","progressDetail":{},"id":"b"}"#,
                progress("downloading: 2 of 3 layers", 5_001_830, 5_002_630),
            ),
            (
                r#"{"status":"Download complete","progressDetail":{},"id":"c"}"#,
                progress("unpacking: 1 of 3 layers", 5_002_630, 5_002_630),
            ),
            (
                r#"{"status":"Extracting","progressDetail":{"current":65536,"total":5001730},"id":"b"}"#,
                progress("unpacking: 1 of 3 layers", 5_002_630, 5_002_630),
            ),
            (
                r#"{"status":"Pull complete","progressDetail":{},"id":"b"}"#,
                progress("unpacking: 2 of 3 layers", 5_002_630, 5_002_630),
            ),
            (
                r#"{"status":"Pull complete","progressDetail":{},"id":"c"}"#,
                progress("3 layers are there", 5_002_630, 5_002_630),
            ),
            (
                r#"{"status":"Digest: sha256:1bb6128e"}"#,
                progress("3 layers are there", 5_002_630, 5_002_630),
            ),
            (
                r#"{"status":"Status: Downloaded newer image for localhost:15000/wgtest/shop:1"}"#,
                progress("3 layers are there", 5_002_630, 5_002_630),
            ),
        ];
        for end in 1..=steps.len() {
            let lines: Vec<&str> = steps[..end].iter().map(|(line, _)| *line).collect();
            assert_eq!(
                told(&lines).progress(),
                steps[end - 1].1,
                "{}",
                lines[end - 1]
            );
        }
    }

    #[test]
    fn a_layer_that_is_fetched_anew_loses_its_bytes_and_the_wait_is_told() {
        let layer =
            r#"{"status":"Downloading","progressDetail":{"current":50,"total":100},"id":"a"}"#;
        let retrying = r#"{"status":"Retrying in 2 seconds","progressDetail":{},"id":"a"}"#;
        let again =
            r#"{"status":"Downloading","progressDetail":{"current":10,"total":100},"id":"a"}"#;
        assert_eq!(
            told(&[layer, retrying]).progress(),
            progress("downloading: 0 of 1 layers, retrying in 2 seconds", 50, 100)
        );
        assert_eq!(
            told(&[layer, retrying, again]).progress(),
            progress("downloading: 0 of 1 layers", 10, 100)
        );
    }

    #[test]
    fn odd_numbers_and_many_layers_do_no_harm() {
        let odd = told(&[
            r#"{"status":"Downloading","progressDetail":{"current":-5,"total":-1},"id":"a"}"#,
            r#"{"status":"Downloading","progressDetail":{"current":900,"total":100},"id":"b"}"#,
            r#"{"status":"Extracting"}"#,
            r#"{}"#,
        ]);
        assert_eq!(
            odd.progress(),
            progress("downloading: 0 of 2 layers", 100, 100)
        );
        let mut tally = Tally::default();
        for id in 0..2 * LAYERS_MAX {
            tally.take(&CreateImageInfo {
                id: Some(id.to_string()),
                status: Some("Waiting".to_owned()),
                ..CreateImageInfo::default()
            });
        }
        assert_eq!(tally.layers.len(), LAYERS_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pull_that_is_dropped_lets_go_of_the_engine_also_when_nothing_comes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let engine = tokio::spawn(async move {
            let (mut ping, _) = listener.accept().await.unwrap();
            let pong = "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 0\r\n\r\n";
            ping.write_all(pong.as_bytes()).await.unwrap();
            let (mut pull, _) = listener.accept().await.unwrap();
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            pull.write_all(head.as_bytes()).await.unwrap();
            // As long as it takes until progress is told again.
            tokio::time::sleep(PROGRESS_EVERY).await;
            let line = r#"{"status":"Waiting","progressDetail":{},"id":"a"}"#;
            let chunk = format!("{:x}\r\n{line}\n\r\n", line.len() + 1);
            pull.write_all(chunk.as_bytes()).await.unwrap();
            let mut request = Vec::new();
            pull.read_to_end(&mut request).await.unwrap();
            String::from_utf8(request).unwrap()
        });
        let config = config::Docker {
            host: format!("unix://{}", path.display()),
            network: None,
            timeout: Duration::from_secs(30),
        };
        let label = ("wakegate.enable".to_owned(), "true".to_owned());
        let docker = Docker::connect(&config, label).unwrap();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let pull = tokio::spawn(async move {
            let tell = |progress: PullProgress| drop(tell.send(progress.line));
            docker.pull("localhost:1/shop:1", None, &tell).await
        });
        for line in ["asking the registry", "downloading: 0 of 1 layers"] {
            assert_eq!(told.recv().await.as_deref(), Some(line));
        }
        pull.abort();
        let request = tokio::time::timeout(Duration::from_secs(10), engine).await;
        let request = request.expect("the connection ends").unwrap();
        let begin = "POST /v1.41/images/create?fromImage=localhost%3A1%2Fshop&";
        assert!(
            request.starts_with(begin) && request.contains("&tag=1&"),
            "{request}"
        );
        assert!(
            !request.to_lowercase().contains("x-registry-auth"),
            "{request}"
        );
    }
}
