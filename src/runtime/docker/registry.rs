//! Registries as the engine finds them: whether they answer, and what its words about them mean.

use std::time::Duration;

use bollard::errors::Error;

use super::images::image_path;
use super::{Docker, Subject, runtime_error};
use crate::runtime::credentials::RegistryCredentials;
use crate::runtime::reference::ImageReference;
use crate::runtime::{RegistryHealth, Runtime, RuntimeError};

/// How long a registry may take to be found up. The engine (20.10) gives up after 15 s.
const REGISTRY_ANSWER_MAX: Duration = Duration::from_secs(20);

/// A repository that no registry has: any answer about it is a registry's.
const NOBODYS_REPOSITORY: &str = "wakegate/is-anybody-there";

impl Docker {
    /// Asks through the engine: it is the one that has to reach the registry, maybe from another
    /// machine, with its own certificates and its own idea of `localhost`.
    pub(super) async fn ask_registry(
        &self,
        registry: &str,
    ) -> Result<RegistryHealth, RuntimeError> {
        let name = format!("{registry}/{NOBODYS_REPOSITORY}");
        let image = name.parse().ok();
        // A host that the engine does not take for one would be a repository of Docker's registry.
        let image = image.filter(|image: &ImageReference| image.repository() == NOBODYS_REPOSITORY);
        let Some(image) = image else {
            return Err(RuntimeError::Refused(format!(
                "{registry:?} is not a registry: write host:port, or a host with a dot in its name"
            )));
        };
        let path_name = image_path(&image.to_string())?;
        let ask = self.client.inspect_registry_image(&path_name, None);
        match tokio::time::timeout(REGISTRY_ANSWER_MAX, ask).await {
            Ok(Ok(_)) => Ok(RegistryHealth::Up),
            Ok(Err(error)) => {
                let (status, words) = words_of(error)?;
                match meaning(status, &words) {
                    Meaning::NotFound | Meaning::Denied => Ok(RegistryHealth::Up),
                    Meaning::Unreachable | Meaning::Failed => Ok(RegistryHealth::Down(words)),
                    Meaning::Refused => Err(RuntimeError::Refused(words)),
                }
            }
            Err(_) => {
                self.ping().await?;
                let limit = humantime::format_duration(REGISTRY_ANSWER_MAX);
                Ok(RegistryHealth::Down(format!("no answer within {limit}")))
            }
        }
    }
}

/// What the words of an engine that was to ask a registry mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    NotFound,
    Unreachable,
    Denied,
    Refused,
    Failed,
}

/// Reads the engine's words, which are all there is: nearly everything has the status 500, or 200
/// and an error further on. In lower case; from Docker 20.10.24 and, where they differ, from
/// engines that pull with containerd.
fn meaning(status: u16, words: &str) -> Meaning {
    const ENGINES_OWN: [&str; 3] = [
        "no space left on device",
        "failed to register layer",
        "verification failed for digest",
    ];
    const NOT_FOR_US: [&str; 3] = [
        "no matching manifest",
        "no match for platform",
        "does not match the specified platform",
    ];
    const UNREACHABLE: [&str; 21] = [
        "dial tcp",
        "no such host",
        "connection refused",
        "connection reset",
        "broken pipe",
        "no route to host",
        "network is unreachable",
        "i/o timeout",
        "timeout exceeded",
        "handshake timeout",
        "deadline exceeded",
        "tls: ",
        "x509: ",
        "http response to https client",
        "malformed http response",
        "proxyconnect",
        // An answer, but not a registry's.
        "error unmarshalling content",
        // It answers that it cannot now.
        "unexpected http status: 5",
        "toomanyrequests",
        "429 too many requests",
        "unexpected eof",
    ];
    const DENIED: [&str; 10] = [
        "pull access denied",
        "access to the resource is denied",
        "no basic auth credentials",
        "authentication required",
        "unauthorized",
        "authorization failed",
        "insufficient_scope",
        "incorrect username or password",
        "403 forbidden",
        ": denied",
    ];
    let words = words.trim().to_ascii_lowercase();
    let says_one_of = |all: &[&str]| all.iter().any(|one| words.contains(one));
    // `unexpected status from HEAD request to https://…: 503 Service Unavailable`
    let failing = words.contains("unexpected status") && words.contains(": 5");
    if status == 400 || says_one_of(&NOT_FOR_US) {
        Meaning::Refused
    } else if says_one_of(&ENGINES_OWN) {
        Meaning::Failed
    } else if status == 429 || failing || words.ends_with(": eof") || says_one_of(&UNREACHABLE) {
        Meaning::Unreachable
    } else if matches!(status, 401 | 403) || words.starts_with("denied") || says_one_of(&DENIED) {
        Meaning::Denied
    } else if status == 404 || says_one_of(&["manifest unknown", "name unknown", ": not found"]) {
        Meaning::NotFound
    } else {
        Meaning::Failed
    }
}

/// The engine's words without what it calls the image, which may be any words.
fn without_names(words: &str, reference: &str) -> String {
    let Ok(image) = reference.parse::<ImageReference>() else {
        return words.to_owned();
    };
    let (name, repository) = (image.name(), image.repository());
    // As it is written for people, Docker's own registry is left out.
    let short = name.trim_start_matches("docker.io/");
    let short = short.trim_start_matches("library/");
    let version = match (image.tag(), image.digest()) {
        (_, Some(digest)) => format!("@{digest}"),
        (tag, None) => format!(":{}", tag.unwrap_or_default()),
    };
    let names = [
        format!("/v2/{repository}/manifests/{}", &version[1..]),
        format!("{name}{version}"),
        format!("{short}{version}"),
        name.clone(),
    ];
    names
        .iter()
        .fold(words.to_owned(), |words, name| words.replace(name, "it"))
}

/// The status and the words of an engine that has answered.
fn words_of(error: Error) -> Result<(u16, String), RuntimeError> {
    match error {
        Error::DockerResponseServerError {
            status_code,
            message,
        } => Ok((status_code, message)),
        Error::DockerStreamError { error } => Ok((500, error)),
        other => Err(runtime_error(other, Subject::Engine)),
    }
}

pub(super) fn pull_error(
    error: Error,
    reference: &str,
    credentials: Option<&RegistryCredentials>,
) -> RuntimeError {
    let (status, words) = match words_of(error) {
        Ok(answer) => answer,
        Err(error) => return error,
    };
    match meaning(status, &without_names(&words, reference)) {
        Meaning::NotFound => RuntimeError::ImageNotFound(reference.to_owned()),
        Meaning::Unreachable => RuntimeError::RegistryUnreachable(format!("{reference}: {words}")),
        Meaning::Denied => {
            let asked = match credentials {
                Some(_) => "",
                None => " (it was asked without credentials)",
            };
            RuntimeError::RegistryDenied(format!("{reference}: {words}{asked}"))
        }
        Meaning::Refused => RuntimeError::Refused(format!("{reference}: {words}")),
        Meaning::Failed => RuntimeError::Failed(format!("{reference}: {words}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_words_say_who_has_to_do_something() {
        use Meaning::{Denied, Failed, NotFound, Refused, Unreachable};
        let table = [
            // Docker 20.10.24 with a registry of its own kind.
            (
                404,
                "manifest for localhost:15000/shop:2 not found: manifest unknown: manifest unknown",
                NotFound,
            ),
            (
                404,
                "manifest for localhost:15000/shop:denied not found: manifest unknown: manifest unknown",
                NotFound,
            ),
            (
                404,
                "repository localhost:15000/shop not found: name unknown: repository name not known to registry",
                NotFound,
            ),
            (500, "name unknown", NotFound),
            (
                500,
                r#"Get "http://localhost:15001/v2/": dial tcp 127.0.0.1:15001: connect: connection refused"#,
                Unreachable,
            ),
            (
                500,
                r#"Get "https://nohost.invalid/v2/": dial tcp: lookup nohost.invalid on 192.0.2.53:53: no such host"#,
                Unreachable,
            ),
            (
                500,
                r#"Get "http://localhost:15003/v2/": net/http: request canceled (Client.Timeout exceeded while awaiting headers)"#,
                Unreachable,
            ),
            (
                500,
                r#"Get "http://localhost:15004/v2/": net/http: HTTP/1.x transport connection broken: malformed HTTP response "SSH-2.0""#,
                Unreachable,
            ),
            (500, r#"Get "http://localhost:15005/v2/": EOF"#, Unreachable),
            (
                500,
                r#"Get "https://192.0.2.2:15006/v2/": tls: first record does not look like a TLS handshake"#,
                Unreachable,
            ),
            (
                500,
                r#"Get "https://r.example/v2/": x509: certificate signed by unknown authority"#,
                Unreachable,
            ),
            (
                500,
                r#"Get "https://r.example/v2/": http: server gave HTTP response to HTTPS client"#,
                Unreachable,
            ),
            (
                500,
                "received unexpected HTTP status: 500 Internal Server Error",
                Unreachable,
            ),
            (
                500,
                "received unexpected HTTP status: 503 Service Unavailable",
                Unreachable,
            ),
            (
                500,
                r#"Head "http://localhost:15003/v2/shop/manifests/1": received unexpected HTTP status: 500 Internal Server Error"#,
                Unreachable,
            ),
            (
                500,
                "toomanyrequests: You have reached your pull rate limit.",
                Unreachable,
            ),
            (
                429,
                "toomanyrequests: You have reached your pull rate limit.",
                Unreachable,
            ),
            (
                500,
                "error unmarshalling content: invalid character '<' looking for beginning of value",
                Unreachable,
            ),
            (500, "unexpected EOF", Unreachable),
            (
                500,
                r#"Head "http://localhost:15002/v2/shop/manifests/1": no basic auth credentials"#,
                Denied,
            ),
            (500, "unauthorized: authentication required", Denied),
            (500, "unauthorized", Denied),
            (401, "unauthorized", Denied),
            (403, "denied", Denied),
            (500, "denied", Denied),
            (
                500,
                "denied: requested access to the resource is denied",
                Denied,
            ),
            (
                500,
                r#"Head "http://localhost:15003/v2/shop/manifests/1": denied: denied"#,
                Denied,
            ),
            (
                500,
                r#"Head "http://localhost:15003/v2/shop/manifests/1": unauthorized: incorrect username or password"#,
                Denied,
            ),
            (
                404,
                "pull access denied for shop, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
                Denied,
            ),
            (
                400,
                "invalid reference format: repository name must be lowercase",
                Refused,
            ),
            (
                404,
                "no matching manifest for linux/amd64 in the manifest list entries",
                Refused,
            ),
            (
                500,
                "filesystem layer verification failed for digest sha256:7b0e",
                Failed,
            ),
            (500, "failed to register layer: unexpected EOF", Failed),
            (
                500,
                "write /var/lib/docker/tmp/GetImageBlob1: no space left on device",
                Failed,
            ),
            (
                500,
                "open /var/lib/docker/tmp/GetImageBlob1: permission denied",
                Failed,
            ),
            (500, "unknown blob", Failed),
            // Engines that pull with containerd.
            (
                404,
                r#"failed to resolve reference "localhost:5000/shop:2": localhost:5000/shop:2: not found"#,
                NotFound,
            ),
            (
                500,
                r#"failed to resolve reference "ghcr.io/a/b:latest": unexpected status from HEAD request to https://ghcr.io/v2/a/b/manifests/latest: 403 Forbidden"#,
                Denied,
            ),
            (
                500,
                r#"failed to resolve reference "ghcr.io/a/b:latest": unexpected status from HEAD request to https://ghcr.io/v2/a/b/manifests/latest: 502 Bad Gateway"#,
                Unreachable,
            ),
            (
                500,
                "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed",
                Denied,
            ),
            (
                500,
                r#"failed to resolve reference "docker.io/a/b:latest": failed to authorize: failed to fetch anonymous token: Get "https://auth.docker.io/token?scope=x": EOF"#,
                Unreachable,
            ),
            (
                500,
                r#"failed to resolve reference "localhost:5001/a:1": failed to do request: Head "http://localhost:5001/v2/a/manifests/1": dial tcp 127.0.0.1:5001: connect: connection refused"#,
                Unreachable,
            ),
        ];
        for (status, words, expected) in table {
            assert_eq!(meaning(status, words), expected, "{status} {words}");
        }
    }

    #[test]
    fn an_image_may_be_called_what_it_likes() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let by_digest = format!("localhost:1/unauthorized/denied@{digest}");
        let table = [
            (
                "localhost:1/unauthorized/denied:unauthorized",
                "manifest for localhost:1/unauthorized/denied:unauthorized not found: manifest unknown: manifest unknown".to_owned(),
            ),
            (
                "unauthorized:1",
                "manifest for unauthorized:1 not found: manifest unknown: manifest unknown".to_owned(),
            ),
            (
                "localhost:1/unauthorized:unauthorized",
                r#"Head "http://localhost:1/v2/unauthorized/manifests/unauthorized": manifest unknown"#.to_owned(),
            ),
            (
                "localhost:1/unauthorized:1",
                "repository localhost:1/unauthorized not found: name unknown".to_owned(),
            ),
            (
                by_digest.as_str(),
                format!("manifest for {by_digest} not found: manifest unknown"),
            ),
        ];
        for (reference, message) in table {
            let error = Error::DockerResponseServerError {
                status_code: 404,
                message,
            };
            assert_eq!(
                pull_error(error, reference, None),
                RuntimeError::ImageNotFound(reference.to_owned())
            );
        }
    }

    #[test]
    fn an_error_names_the_image_and_keeps_the_engines_words() {
        let said = |words: &str, credentials: Option<&RegistryCredentials>| {
            let error = Error::DockerStreamError {
                error: words.to_owned(),
            };
            pull_error(error, "r.example/a:1", credentials)
        };
        assert_eq!(
            said("manifest unknown", None),
            RuntimeError::ImageNotFound("r.example/a:1".to_owned())
        );
        assert_eq!(
            said("unauthorized", None).to_string(),
            "the registry denies access: r.example/a:1: unauthorized (it was asked without credentials)"
        );
        let token = RegistryCredentials::IdentityToken(crate::config::Secret("t".to_owned()));
        assert_eq!(
            said("unauthorized", Some(&token)).to_string(),
            "the registry denies access: r.example/a:1: unauthorized"
        );
        assert_eq!(
            said("dial tcp: x", None).to_string(),
            "the registry does not answer: r.example/a:1: dial tcp: x"
        );
    }
}
