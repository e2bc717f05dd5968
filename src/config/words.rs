//! The kinds of text that only a gateway's configuration has: addresses, labels, tokens, filters.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use jiff::tz::TimeZone;
use tracing_subscriber::EnvFilter;

use super::kind::{Complaint, Kind, TextKind, is_not};
use super::store::is_server;
use super::typed::Value;
use super::{Listen, Secret, suggest};

/// The shortest token that is let in, in characters.
pub const TOKEN_CHARS_MIN: usize = 16;

/// The longest path of a unix socket, in bytes (Linux `sockaddr_un` less its closing zero).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// `address:port` or `unix:/path`.
pub struct Listener;

impl TextKind for Listener {
    type Out = Listen;
    const WHAT: (&'static str, &'static str) = (
        "an address to listen on",
        "\"127.0.0.1:8000\" or \"unix:/run/gateway.sock\"",
    );

    fn parse(&self, text: &str, base: &Path) -> Result<Listen, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return socket_path(text, path, base).map(Listen::Unix);
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Listen::Tcp(address));
        }
        // What people type, and what they mean by it.
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let address = match (host, port.parse::<u16>()) {
            ("" | "*", Ok(port)) => format!("0.0.0.0:{port}"),
            ("localhost", Ok(port)) => format!("127.0.0.1:{port}"),
            _ => return Err(is_not(format_args!("{text:?}"), Self::WHAT)),
        };
        Err(format!(
            "{text:?} is no complete address (write {address:?})"
        ))
    }

    fn write(&self, listen: &Listen) -> String {
        match listen {
            Listen::Tcp(address) => address.to_string(),
            Listen::Unix(path) => format!("unix:{}", path.display()),
        }
    }
}

fn socket_path(typed: &str, path: &str, base: &Path) -> Result<PathBuf, String> {
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path.ends_with('/') || path.contains('\0') {
        return Err(format!(
            "{typed:?} names no file (try \"unix:/run/gateway.sock\")"
        ));
    }
    let path = base.join(path);
    let bytes = path.as_os_str().len();
    if bytes > SOCKET_PATH_BYTES_MAX {
        return Err(format!(
            "the socket's path has {bytes} bytes; the system allows {SOCKET_PATH_BYTES_MAX}"
        ));
    }
    Ok(path)
}

/// A network, or one address.
pub struct Network;

impl TextKind for Network {
    type Out = IpNet;
    const WHAT: (&'static str, &'static str) =
        ("an address or a network", "\"10.0.0.0/8\" or \"::1\"");

    fn parse(&self, text: &str, _: &Path) -> Result<IpNet, String> {
        let address = text.parse::<IpAddr>().map(IpNet::from);
        address
            .or_else(|_| text.parse::<IpNet>())
            .map_err(|_| is_not(format_args!("{text:?}"), Self::WHAT))
    }

    fn write(&self, network: &IpNet) -> String {
        network.to_string()
    }
}

/// A host's name or address, without a port.
pub struct Host;

impl TextKind for Host {
    type Out = String;
    const WHAT: (&'static str, &'static str) = ("a host's name", "\"gateway.example.com\"");

    fn parse(&self, text: &str, _: &Path) -> Result<String, String> {
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        let is_name = !bare.is_empty()
            && bare
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
        if is_name || bare.parse::<IpAddr>().is_ok() {
            return Ok(bare.to_ascii_lowercase());
        }
        if let Some((host, port)) = text.rsplit_once(':')
            && port.parse::<u16>().is_ok()
            && self.parse(host, Path::new("")).is_ok()
        {
            return Err(format!("{text:?} has a port (write {host:?})"));
        }
        Err(is_not(format_args!("{text:?}"), Self::WHAT))
    }

    fn write(&self, host: &String) -> String {
        host.clone()
    }
}

/// `unix:///path` or `tcp://host:port`.
pub struct EngineHost;

impl TextKind for EngineHost {
    type Out = String;
    const WHAT: (&'static str, &'static str) = (
        "an engine's address",
        "\"unix:///var/run/docker.sock\" or \"tcp://127.0.0.1:2375\"",
    );

    fn parse(&self, text: &str, _: &Path) -> Result<String, String> {
        let fits = match text.split_once("://") {
            Some(("unix", path)) => path.starts_with('/') && path.len() > 1,
            Some(("tcp", host)) => host
                .parse::<http::uri::Authority>()
                .is_ok_and(|host| host.port_u16().is_some() && !host.host().is_empty()),
            Some((scheme @ ("ssh" | "npipe" | "https"), _)) => {
                return Err(format!(
                    "{text:?}: engines are not reached by {scheme}:// here \
                     (use unix:///path or tcp://host:port)"
                ));
            }
            _ => false,
        };
        if fits {
            Ok(text.to_owned())
        } else {
            Err(is_not(format_args!("{text:?}"), Self::WHAT))
        }
    }

    fn write(&self, host: &String) -> String {
        host.clone()
    }
}

/// `http://host[:port][/path]`, without a slash at its end.
pub struct PlainUrl;

impl TextKind for PlainUrl {
    type Out = String;
    const WHAT: (&'static str, &'static str) = ("an HTTP address", "\"http://127.0.0.1:8080\"");

    fn parse(&self, text: &str, _: &Path) -> Result<String, String> {
        if text.starts_with("https://") {
            return Err(format!(
                "{text:?}: only http:// is spoken here (give it a private listener without TLS)"
            ));
        }
        let address = text.split_once("://").map_or(text, |(_, address)| address);
        if address
            .split('/')
            .next()
            .is_some_and(|host| host.contains('@'))
        {
            // The password is nobody's to read in a log.
            return Err(
                "a user's name or password in an address is not supported: nothing is sent along \
                 here (give it a private listener that asks for none)"
                    .to_owned(),
            );
        }
        let fits = text.parse::<http::Uri>().is_ok_and(|uri| {
            uri.scheme_str() == Some("http")
                && uri.authority().is_some_and(is_server)
                && uri.query().is_none()
                && !text.contains(['@', '#'])
        });
        if fits {
            Ok(text.trim_end_matches('/').to_owned())
        } else {
            Err(is_not(format_args!("{text:?}"), Self::WHAT))
        }
    }

    fn write(&self, url: &String) -> String {
        url.clone()
    }
}

/// A name of the engine's, such as a network's.
pub struct EngineName;

impl TextKind for EngineName {
    type Out = String;
    const WHAT: (&'static str, &'static str) = ("a network's name", "\"bridge\"");

    fn parse(&self, text: &str, _: &Path) -> Result<String, String> {
        if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(is_not(format_args!("{text:?}"), Self::WHAT));
        }
        Ok(text.to_owned())
    }

    fn write(&self, name: &String) -> String {
        name.clone()
    }
}

/// `key=value`, or `key` for `key=true`.
pub struct Label;

impl TextKind for Label {
    type Out = (String, String);
    const WHAT: (&'static str, &'static str) = ("a label", "\"wakegate.enable=true\"");

    fn parse(&self, text: &str, _: &Path) -> Result<(String, String), String> {
        let (key, value) = text.split_once('=').unwrap_or((text, "true"));
        let (key, value) = (key.trim(), value.trim());
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == '"';
        if key.is_empty() || value.is_empty() || key.contains(odd) {
            return Err(is_not(format_args!("{text:?}"), Self::WHAT));
        }
        Ok((key.to_owned(), value.to_owned()))
    }

    fn write(&self, (key, value): &(String, String)) -> String {
        format!("{key}={value}")
    }
}

/// An absolute path of the machine that containers run on.
pub struct HostPath;

impl TextKind for HostPath {
    type Out = String;
    const WHAT: (&'static str, &'static str) = ("an absolute path", "\"/srv/data\"");

    fn parse(&self, text: &str, _: &Path) -> Result<String, String> {
        let steps_up = Path::new(text)
            .components()
            .any(|part| part == std::path::Component::ParentDir);
        if !text.starts_with('/') || text.contains([':', '\0']) || steps_up {
            return Err(is_not(format_args!("{text:?}"), Self::WHAT));
        }
        Ok(text.to_owned())
    }

    fn write(&self, path: &String) -> String {
        path.clone()
    }
}

/// A Linux capability.
pub struct Capability;

impl TextKind for Capability {
    type Out = String;
    const WHAT: (&'static str, &'static str) = ("a capability", "\"NET_ADMIN\"");

    fn parse(&self, text: &str, _: &Path) -> Result<String, String> {
        let upper = text.to_ascii_uppercase();
        let is_word = !text.is_empty()
            && upper
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
        match is_word {
            true if upper == text => Ok(upper),
            true => Err(format!("{text:?} is written in capitals (write {upper:?})")),
            false => Err(is_not(format_args!("{text:?}"), Self::WHAT)),
        }
    }

    fn write(&self, capability: &String) -> String {
        capability.clone()
    }
}

/// A program or one of its arguments: any text, as it is.
pub struct Argument;

impl Kind for Argument {
    type Out = String;

    fn read(&self, value: &Value, _: &Path) -> Result<String, Vec<Complaint>> {
        match value {
            Value::Text(text) | Value::Word(text) if !text.contains('\0') => Ok(text.clone()),
            other => Err(vec![
                is_not(other.show(), ("text", "\"…\" in quotes")).into(),
            ]),
        }
    }

    fn show(&self, text: &String) -> Option<String> {
        Some(format!("{text:?}"))
    }
}

/// A secret; its value stands in no message.
pub struct Token;

impl Kind for Token {
    type Out = Secret;

    fn read(&self, value: &Value, _: &Path) -> Result<Secret, Vec<Complaint>> {
        let token = match value {
            Value::Text(text) | Value::Word(text) => token(text.trim()),
            _ => Err("is no text (write it in quotes)".to_owned()),
        };
        token.map_err(|message| vec![message.into()])
    }

    fn show(&self, _: &Secret) -> Option<String> {
        None
    }
}

/// What a client can send in an `Authorization` field and nobody guesses soon.
pub fn token(text: &str) -> Result<Secret, String> {
    let chars = text.chars().count();
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(
            "has characters that cannot be sent as a token (use letters, digits and \
                    -._~+/=)"
                .to_owned(),
        );
    }
    if chars < TOKEN_CHARS_MIN {
        return Err(format!(
            "has {chars} characters; a token needs {TOKEN_CHARS_MIN} or more \
             (try: openssl rand -hex 32)"
        ));
    }
    Ok(Secret(text.to_owned()))
}

/// A time zone by its name in the IANA's database, of which a copy is in the program.
pub struct IanaName;

impl TextKind for IanaName {
    type Out = TimeZone;
    const WHAT: (&'static str, &'static str) = ("a time zone", "\"UTC\" or \"Europe/Berlin\"");

    fn parse(&self, text: &str, _: &Path) -> Result<TimeZone, String> {
        match TimeZone::get(text) {
            Ok(zone) if !zone.is_unknown() => Ok(zone),
            _ => {
                let known: Vec<_> = jiff::tz::db().available().collect();
                match suggest::nearest(text, known.iter().map(|name| name.as_str())) {
                    Some(near) => Err(format!(
                        "{text:?} is not a time zone (did you mean `{near}`?)"
                    )),
                    None => Err(is_not(format_args!("{text:?}"), Self::WHAT)),
                }
            }
        }
    }

    fn write(&self, zone: &TimeZone) -> String {
        zone.iana_name().unwrap_or("UTC").to_owned()
    }
}

/// A filter of log lines: `info`, `wakegate=debug,hyper=warn`.
pub struct Filter;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl TextKind for Filter {
    type Out = String;
    const WHAT: (&'static str, &'static str) = ("a log filter", "\"info\" or \"wakegate=debug\"");

    fn parse(&self, text: &str, _: &Path) -> Result<String, String> {
        let part_is_level = |part: &str| {
            LEVELS.iter().any(|level| level.eq_ignore_ascii_case(part))
                || part.parse::<u8>().is_ok_and(|number| number <= 5)
        };
        let wrong = || is_not(format_args!("{text:?}"), Self::WHAT);
        // The parser counts bytes where it means characters, and panics on what is not ASCII.
        if text.is_empty() || !text.is_ascii() || EnvFilter::builder().parse(text).is_err() {
            return Err(wrong());
        }
        for part in text.split(',').map(str::trim) {
            let bare = !part.contains(['=', '[', ']', '{', '}']);
            // The filter's own grammar takes `inof` for a module and then shows nothing else.
            if bare && !part.is_empty() && !part_is_level(part) {
                return Err(match suggest::nearest(part, LEVELS) {
                    Some(level) => format!("{part:?} is not a level (did you mean `{level}`?)"),
                    None => {
                        format!("{part:?} is not a level (for a module write \"{part}=debug\")")
                    }
                });
            }
        }
        Ok(text.to_owned())
    }

    fn write(&self, filter: &String) -> String {
        filter.clone()
    }
}
