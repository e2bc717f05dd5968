//! The engine's errors as what the caller can do about them.

use bollard::errors::Error;

use crate::runtime::RuntimeError;

/// What a call was about, so that "404" can be said in words.
#[derive(Debug, Clone, Copy)]
pub(super) enum Subject<'a> {
    /// The engine itself.
    Engine,
    Container(&'a str),
    /// A container that is being made.
    New {
        name: &'a str,
        image: &'a str,
    },
    Network(&'a str),
    Image(&'a str),
}

pub(super) fn runtime_error(error: Error, subject: Subject<'_>) -> RuntimeError {
    match error {
        Error::DockerResponseServerError {
            status_code,
            message,
        } if message.is_empty() => {
            let message = format!("it answers with status {status_code} and says nothing");
            answered(status_code, message, subject)
        }
        Error::DockerResponseServerError {
            status_code,
            message,
        } => answered(status_code, message, subject),
        // Connections are made here, with a sentence in the error; nothing else does I/O.
        Error::IOError { err } => RuntimeError::Unreachable(err.to_string()),
        Error::HyperResponseError { err } => {
            RuntimeError::Unreachable(format!("the connection broke: {}", chain(&err)))
        }
        Error::RequestTimeoutError => RuntimeError::Unreachable("no answer in time".to_owned()),
        Error::DockerStreamError { error } => RuntimeError::Failed(error),
        Error::JsonDataError { message, .. } => {
            RuntimeError::Failed(format!("its answer cannot be understood: {message}"))
        }
        other => RuntimeError::Failed(chain(&other)),
    }
}

/// An answer of 400 or above (Docker Engine API, the responses of each call).
fn answered(status: u16, message: String, subject: Subject<'_>) -> RuntimeError {
    // A start looks for the network and says 404 of it, also about a container that is there.
    let missing_network = message
        .split_once("network ")
        .and_then(|(_, rest)| rest.strip_suffix(" not found"))
        .filter(|name| !name.is_empty());
    match (status, subject) {
        (404, Subject::New { image, .. }) if says(&message, "no such image") => {
            RuntimeError::ImageMissing(image.to_owned())
        }
        (404, Subject::Network(name)) => RuntimeError::NetworkMissing(name.to_owned()),
        (404, Subject::Image(name)) => RuntimeError::ImageMissing(name.to_owned()),
        (404, _) if missing_network.is_some() => {
            RuntimeError::NetworkMissing(missing_network.unwrap_or_default().to_owned())
        }
        (404, Subject::Container(id)) if says(&message, "no such container") => {
            RuntimeError::NotFound(id.to_owned())
        }
        (409, Subject::New { name, .. }) if says(&message, "already in use") => {
            RuntimeError::NameTaken(name.to_owned())
        }
        // Somebody removes it this moment.
        (409, Subject::Container(id)) if says(&message, "marked for removal") => {
            RuntimeError::NotFound(id.to_owned())
        }
        // 501: a log driver that cannot be read from, for one.
        (400..=499 | 501, _) => RuntimeError::Refused(message),
        _ => RuntimeError::Failed(message),
    }
}

/// Whether an engine's message has these words, in any case.
pub(super) fn says(message: &str, words: &str) -> bool {
    message.to_ascii_lowercase().contains(words)
}

/// An error with its causes, outermost first.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status_code: u16, message: &str, subject: Subject<'_>) -> RuntimeError {
        let error = Error::DockerResponseServerError {
            status_code,
            message: message.to_owned(),
        };
        runtime_error(error, subject)
    }

    const NEW: Subject<'_> = Subject::New {
        name: "web",
        image: "nope:latest",
    };

    // The messages are those of Docker 20.10.24.

    #[test]
    fn a_create_tells_a_missing_image_from_a_taken_name() {
        assert_eq!(
            said(404, "No such image: nope:latest", NEW),
            RuntimeError::ImageMissing("nope:latest".to_owned())
        );
        let taken = "Conflict. The container name \"/web\" is already in use by container \"b56b\". You have to remove (or rename) that container to be able to reuse that name.";
        assert_eq!(
            said(409, taken, NEW),
            RuntimeError::NameTaken("web".to_owned())
        );
        assert_eq!(
            said(404, "network backend not found", NEW),
            RuntimeError::NetworkMissing("backend".to_owned())
        );
        assert_eq!(
            said(400, "invalid reference format", NEW),
            RuntimeError::Refused("invalid reference format".to_owned())
        );
    }

    #[test]
    fn a_start_tells_a_missing_network_from_a_missing_container() {
        let container = Subject::Container("b56b");
        assert_eq!(
            said(404, "network nonet not found", container),
            RuntimeError::NetworkMissing("nonet".to_owned())
        );
        assert_eq!(
            said(404, "No such container: b56b", container),
            RuntimeError::NotFound("b56b".to_owned())
        );
        let no_program = "failed to create shim task: OCI runtime create failed: executable file not found in $PATH";
        assert_eq!(
            said(404, no_program, container),
            RuntimeError::Refused(no_program.to_owned())
        );
    }

    #[test]
    fn other_answers_are_refusals_or_failures_by_their_status() {
        let container = Subject::Container("b56b");
        assert_eq!(
            said(
                409,
                "cannot start a paused container, try unpause instead",
                container
            ),
            RuntimeError::Refused(
                "cannot start a paused container, try unpause instead".to_owned()
            )
        );
        assert_eq!(
            said(500, "driver failed to remove root filesystem", container),
            RuntimeError::Failed("driver failed to remove root filesystem".to_owned())
        );
        assert_eq!(
            said(
                404,
                "network backend not found",
                Subject::Network("backend")
            ),
            RuntimeError::NetworkMissing("backend".to_owned())
        );
        assert_eq!(
            said(
                404,
                "no such image: a:b: No such image: a:b",
                Subject::Image("a:b")
            ),
            RuntimeError::ImageMissing("a:b".to_owned())
        );
    }

    #[test]
    fn a_connection_that_fails_means_unreachable() {
        let err = std::io::Error::other("nobody listens at /run/x; start the Docker engine");
        assert_eq!(
            runtime_error(Error::IOError { err }, Subject::Engine),
            RuntimeError::Unreachable(
                "nobody listens at /run/x; start the Docker engine".to_owned()
            )
        );
        assert!(matches!(
            runtime_error(Error::RequestTimeoutError, Subject::Engine),
            RuntimeError::Unreachable(_)
        ));
    }
}
