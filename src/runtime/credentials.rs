//! Credentials for registries, from a file in the form of Docker's own `config.json`.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, general_purpose};
use serde::Deserialize;

use super::reference::{DEFAULT_REGISTRY, ImageReference};
use crate::config::Secret;

/// What a registry is shown to let the engine in.
#[derive(Clone, PartialEq, Eq)]
pub enum RegistryCredentials {
    Password {
        username: String,
        password: Secret,
    },
    /// What a registry gave at a login in place of the password.
    IdentityToken(Secret),
}

/// Secrets stay out of logs, whoever prints this.
impl fmt::Debug for RegistryCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Password(…)",
            Self::IdentityToken(_) => "IdentityToken(…)",
        })
    }
}

/// The credentials of a file, by the registries that they are for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Credentials {
    /// By registry, and by the beginning of a repository: empty for all of the registry's.
    entries: BTreeMap<(String, String), Entry>,
}

#[derive(Debug, Clone, PartialEq)]
enum Entry {
    Known(RegistryCredentials),
    /// This program keeps them.
    Helper(String),
}

/// The file as it is written. What else stands in it is Docker's own business.
#[derive(Deserialize)]
struct Typed {
    #[serde(default)]
    auths: BTreeMap<String, TypedEntry>,
    #[serde(default, rename = "credsStore")]
    creds_store: Option<String>,
    #[serde(default, rename = "credHelpers")]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct TypedEntry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// As Docker writes it; others leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Credentials {
    /// Reads a file's bytes: `{"auths": {"host:port": {"auth": "<base64 of user:password>"}}}`, or
    /// with `username` and `password`, or with `identitytoken`.
    ///
    /// Errors say which place of the file is wrong, and never what stands there.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let typed = typed(bytes)?;
        let mut entries = BTreeMap::new();
        let mut helped: BTreeMap<(String, String), String> = BTreeMap::new();
        for (key, program) in typed.cred_helpers {
            helped.insert(place(&key), program);
        }
        let mut written: Vec<(String, TypedEntry)> = typed.auths.into_iter().collect();
        // A key that is the registry's name alone wins over one that is written as a URL.
        written.sort_by_key(|(key, _)| !key.contains("://"));
        for (key, entry) in written {
            match (known(&key, entry)?, &typed.creds_store) {
                (Some(credentials), _) => {
                    entries.insert(place(&key), Entry::Known(credentials));
                }
                (None, _) if helped.contains_key(&place(&key)) => {}
                // So Docker notes a login whose secret it has given to a helper.
                (None, Some(program)) => {
                    helped.insert(place(&key), program.clone());
                }
                (None, None) => {
                    return Err(format!(
                        "auths.{key:?} has neither auth, nor username and password, nor identitytoken"
                    ));
                }
            }
        }
        for (place, program) in helped {
            entries.entry(place).or_insert(Entry::Helper(program));
        }
        Ok(Self { entries })
    }

    /// What the file has for an image's registry; of several entries the one with the longest
    /// beginning of the image's repository. `None` when there is nothing, and the registry is to be
    /// asked without.
    ///
    /// An error when the file only names a helper program for it.
    pub fn for_image(
        &self,
        image: &ImageReference,
    ) -> Result<Option<&RegistryCredentials>, String> {
        let registry = image.registry().to_ascii_lowercase();
        let covers = |path: &str| {
            let rest = image.repository().strip_prefix(path);
            path.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let found = self
            .entries
            .iter()
            .filter(|((of, path), _)| *of == registry && covers(path))
            .max_by_key(|((_, path), _)| path.len());
        match found {
            None => Ok(None),
            Some((_, Entry::Known(credentials))) => Ok(Some(credentials)),
            Some((_, Entry::Helper(program))) => Err(format!(
                "the credentials for {registry} are kept by the program docker-credential-{program}, \
                 which is not run here: write them to the file itself, under auths.{registry:?}"
            )),
        }
    }
}

/// The file as it is written. serde's own words would cite what stands in it.
fn typed(bytes: &[u8]) -> Result<Typed, String> {
    let not_json = |error: &serde_json::Error| {
        let (line, column) = (error.line(), error.column());
        format!("it is not JSON (line {line}, column {column})")
    };
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let typed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let (path, error) = (error.path().to_string(), error.into_inner());
        if !error.is_data() {
            return not_json(&error);
        }
        let (line, column) = (error.line(), error.column());
        format!("{path} is not of the kind that belongs there (line {line}, column {column})")
    })?;
    json.end().map_err(|error| not_json(&error))?;
    Ok(typed)
}

/// What an entry has, or `None` when it has nothing.
fn known(key: &str, entry: TypedEntry) -> Result<Option<RegistryCredentials>, String> {
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    if let Some(token) = filled(entry.identitytoken) {
        return Ok(Some(RegistryCredentials::IdentityToken(Secret(token))));
    }
    if let Some(auth) = filled(entry.auth) {
        let not_auth =
            || format!("auths.{key:?}.auth is not base64 of a user name, ':' and a password");
        let decoded = BASE64.decode(auth.trim()).map_err(|_| not_auth())?;
        let text = String::from_utf8(decoded).map_err(|_| not_auth())?;
        let (username, password) = text.split_once(':').ok_or_else(not_auth)?;
        if username.is_empty() {
            return Err(not_auth());
        }
        return Ok(Some(RegistryCredentials::Password {
            username: username.to_owned(),
            // Docker for Windows pads with them.
            password: Secret(password.trim_matches('\0').to_owned()),
        }));
    }
    match (filled(entry.username), entry.password) {
        (Some(username), Some(password)) => Ok(Some(RegistryCredentials::Password {
            username,
            password: Secret(password),
        })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(format!("auths.{key:?} has a username and no password")),
        (None, Some(_)) => Err(format!("auths.{key:?} has a password and no username")),
    }
}

/// A key as registry and beginning of a repository. Docker's spellings of its own registry, and
/// the addresses of an API in place of a host's name, are the registry itself.
fn place(key: &str) -> (String, String) {
    let text = match key.split_once("://") {
        Some((_, rest)) => rest,
        None => key,
    };
    let (host, path) = text.split_once('/').unwrap_or((text, ""));
    let path = path.trim_matches('/');
    let path = match path.split_once('/') {
        Some(("v1" | "v2", rest)) => rest,
        _ if matches!(path, "v1" | "v2") => "",
        _ => path,
    };
    let host = host.to_ascii_lowercase();
    let registry = match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY.to_owned(),
        _ => host,
    };
    (registry, path.to_owned())
}

impl RegistryCredentials {
    /// As the engine takes them in a header (Docker Engine API, "Authentication"): JSON in the
    /// alphabet of base64 that is safe in URLs. In the common alphabet the engine (20.10) takes
    /// some credentials for none at all, without a word.
    pub fn to_header(&self, registry: &str) -> String {
        let json = match self {
            Self::Password { username, password } => serde_json::json!({
                "username": username,
                "password": password.0,
                "serveraddress": registry,
            }),
            Self::IdentityToken(token) => serde_json::json!({
                "identitytoken": token.0,
                "serveraddress": registry,
            }),
        };
        general_purpose::URL_SAFE.encode(json.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(username: &str, password: &str) -> RegistryCredentials {
        RegistryCredentials::Password {
            username: username.to_owned(),
            password: Secret(password.to_owned()),
        }
    }

    fn auth(text: &str) -> String {
        general_purpose::STANDARD.encode(text)
    }

    fn read(json: &serde_json::Value) -> Credentials {
        Credentials::read(json.to_string().as_bytes()).unwrap()
    }

    fn found(credentials: &Credentials, image: &str) -> Option<RegistryCredentials> {
        credentials
            .for_image(&image.parse().unwrap())
            .unwrap()
            .cloned()
    }

    #[test]
    fn every_spelling_of_a_registry_is_found() {
        let table = [
            ("localhost:5000", "localhost:5000/shop:1"),
            ("http://localhost:5000", "localhost:5000/shop:1"),
            ("http://localhost:5000/v2/", "localhost:5000/shop:1"),
            ("https://GHCR.io/v1", "ghcr.io/a/b"),
            ("ghcr.io", "GHCR.io/a/b"),
            ("https://index.docker.io/v1/", "shop"),
            ("index.docker.io", "me/shop:1"),
            ("docker.io", "docker.io/shop"),
            ("registry-1.docker.io", "shop"),
            ("[::1]:5000", "[::1]:5000/shop"),
            ("ghcr.io/a", "ghcr.io/a/b"),
            ("ghcr.io/a/b", "ghcr.io/a/b:1"),
        ];
        for (key, image) in table {
            let file = read(&serde_json::json!({"auths": {key: {"auth": auth("me:pw")}}}));
            assert_eq!(
                found(&file, image),
                Some(password("me", "pw")),
                "{key}, {image}"
            );
        }
    }

    #[test]
    fn others_get_nothing() {
        let table = [
            ("localhost:5000", "localhost:5001/shop"),
            ("localhost", "localhost:5000/shop"),
            ("example.com", "registry.example.com/shop"),
            ("https://index.docker.io/v1/", "ghcr.io/library/shop"),
            ("https://index.docker.io/v1/access-token", "shop"),
            ("ghcr.io/a", "ghcr.io/ab/c"),
            ("ghcr.io/a/b", "ghcr.io/a"),
        ];
        for (key, image) in table {
            let file = read(&serde_json::json!({"auths": {key: {"auth": auth("me:pw")}}}));
            assert_eq!(found(&file, image), None, "{key}, {image}");
        }
        assert_eq!(found(&Credentials::read(b"{}").unwrap(), "shop"), None);
    }

    #[test]
    fn every_form_of_an_entry_is_read() {
        let unpadded = auth("user:p").trim_end_matches('=').to_owned();
        let table = [
            (
                serde_json::json!({"auth": auth("user:p:w")}),
                password("user", "p:w"),
            ),
            (
                serde_json::json!({"auth": auth("user:"), "email": "x"}),
                password("user", ""),
            ),
            (serde_json::json!({"auth": unpadded}), password("user", "p")),
            (
                serde_json::json!({"auth": auth("user:pw\0\0")}),
                password("user", "pw"),
            ),
            (
                serde_json::json!({"username": "user", "password": "pw"}),
                password("user", "pw"),
            ),
            (
                serde_json::json!({"auth": auth("00000000:"), "identitytoken": "eyJ"}),
                RegistryCredentials::IdentityToken(Secret("eyJ".to_owned())),
            ),
        ];
        for (entry, expected) in table {
            let file = read(&serde_json::json!({"auths": {"r.example": entry}, "HttpHeaders": {}}));
            assert_eq!(found(&file, "r.example/a"), Some(expected));
        }
    }

    #[test]
    fn the_nearest_entry_wins() {
        let file = read(&serde_json::json!({"auths": {
            "https://r.example/v1/": {"auth": auth("url:1")},
            "r.example": {"auth": auth("name:2")},
            "r.example/team": {"auth": auth("team:3")},
        }}));
        assert_eq!(found(&file, "r.example/other"), Some(password("name", "2")));
        assert_eq!(
            found(&file, "r.example/team/x"),
            Some(password("team", "3"))
        );
    }

    #[test]
    fn a_helper_that_would_have_to_be_run_is_named() {
        let file = read(&serde_json::json!({
            "auths": {"a.example": {}, "b.example": {"auth": auth("b:pw")}, "c.example": {}},
            "credsStore": "desktop",
            "credHelpers": {"c.example": "ecr-login", "b.example": "gcloud", "d.example": "pass"},
        }));
        let refused = |image: &str| file.for_image(&image.parse().unwrap()).unwrap_err();
        for (image, program) in [
            ("a.example/x", "docker-credential-desktop"),
            ("c.example/x", "docker-credential-ecr-login"),
            ("d.example/x", "docker-credential-pass"),
        ] {
            let words = refused(image);
            assert!(
                words.contains(program) && words.contains("auths."),
                "{words}"
            );
        }
        assert_eq!(found(&file, "b.example/x"), Some(password("b", "pw")));
        assert_eq!(found(&file, "e.example/x"), None);
    }

    #[test]
    fn what_is_wrong_is_told_by_its_place_and_not_by_what_stands_there() {
        let secret = "hunter2";
        let table = [
            (
                r#"{"auths": {"h:1": {"auth": "hunter2"}}}"#.to_owned(),
                r#"auths."h:1".auth"#,
            ),
            (
                format!(r#"{{"auths": {{"h:1": {{"auth": "{}"}}}}}}"#, auth(secret)),
                r#"auths."h:1".auth"#,
            ),
            (
                format!(
                    r#"{{"auths": {{"h:1": {{"auth": "{}"}}}}}}"#,
                    auth(":hunter2")
                ),
                r#"auths."h:1".auth"#,
            ),
            (
                r#"{"auths": {"h:1": {"password": "hunter2"}}}"#.to_owned(),
                "no username",
            ),
            (
                r#"{"auths": {"h:1": {"username": "hunter2"}}}"#.to_owned(),
                "no password",
            ),
            (
                r#"{"auths": {"h:1": {}}}"#.to_owned(),
                r#"auths."h:1" has neither"#,
            ),
            (
                r#"{"auths": {"h:1": "hunter2"}}"#.to_owned(),
                "auths.h:1 is not of the kind",
            ),
            (
                "{\"auths\": {\"h:1\":\n{\"auth\": [\"hunter2\"]}}}".to_owned(),
                "line 2",
            ),
            (
                r#"{"auths": "hunter2"}"#.to_owned(),
                "auths is not of the kind",
            ),
            ("hunter2".to_owned(), "not JSON (line 1, column"),
            ("{} hunter2".to_owned(), "not JSON (line 1, column"),
            (
                r#"{"auths": {"h:1": {"auth": "hunter2"#.to_owned(),
                "not JSON",
            ),
            (String::new(), "not JSON"),
        ];
        for (text, place) in table {
            let error = Credentials::read(text.as_bytes()).unwrap_err();
            assert!(error.contains(place), "{text}: {error}");
            assert!(
                !error.contains(secret) && !error.contains(&auth(secret)),
                "{error}"
            );
        }
    }

    #[test]
    fn nobody_prints_a_secret() {
        let file = read(&serde_json::json!({"auths": {
            "a.example": {"auth": auth("someone:hunter2")},
            "b.example": {"identitytoken": "hunter2"},
        }}));
        let printed = format!("{file:?}");
        assert!(
            !printed.contains("hunter2") && !printed.contains("someone"),
            "{printed}"
        );
    }

    #[test]
    fn the_engine_gets_them_in_the_alphabet_that_it_reads() {
        let header = |it: RegistryCredentials| {
            let header = it.to_header("localhost:5000");
            let json = general_purpose::URL_SAFE.decode(&header).unwrap();
            (
                header,
                serde_json::from_slice::<serde_json::Value>(&json).unwrap(),
            )
        };
        let (text, json) = header(password("me", "~~~???>>>ÿÿÿ"));
        assert_eq!(
            json,
            serde_json::json!({"username": "me", "password": "~~~???>>>ÿÿÿ", "serveraddress": "localhost:5000"})
        );
        assert!(
            text.contains(['-', '_']),
            "{text}: the alphabets do not differ here"
        );
        let (_, json) = header(RegistryCredentials::IdentityToken(Secret("t".to_owned())));
        assert_eq!(
            json,
            serde_json::json!({"identitytoken": "t", "serveraddress": "localhost:5000"})
        );
    }
}
