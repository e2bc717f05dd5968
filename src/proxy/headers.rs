//! Header fields on their way through: what concerns one connection only goes, what proxies say is kept true.

use std::net::SocketAddr;

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};

use crate::decision::HeaderEdits;
use crate::proxy::facts::{Inbound, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Fields of one connection whether or not Connection names them (RFC 9110 §7.6.1).
/// Trailer stays: trailers are forwarded.
const HOP_BY_HOP: [HeaderName; 7] = [
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The protocols that a request asks to switch to, when it may be forwarded as such a request.
///
/// HTTP/2 in the clear is not: inside such a tunnel a client could ask for every path of the
/// workload with no script seeing it, and RFC 9113 §3.1 has withdrawn that upgrade.
pub fn upgrade_asked(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(UPGRADE)?;
    let asked = asks_to_upgrade(headers);
    let cleartext_http2 = protocol
        .as_bytes()
        .split(|byte| *byte == b',')
        .any(|name| name.trim_ascii().eq_ignore_ascii_case(b"h2c"));
    (asked && !cleartext_http2).then(|| protocol.clone())
}

/// Whether a request asks for any other protocol at all.
pub fn asks_to_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
        && connection_options(headers).any(|option| option.eq_ignore_ascii_case("upgrade"))
}

/// The fields of a request as the application gets them.
pub fn for_application(
    asked: &HeaderMap,
    inbound: &Inbound,
    application: SocketAddr,
    upgrade: Option<&HeaderValue>,
    edits: &HeaderEdits,
) -> HeaderMap {
    let mut headers = asked.clone();
    let takes_trailers = takes_trailers(asked);
    remove_hop_by_hop(&mut headers);
    // The gateway itself answers 100 (Continue), when the application can take the body.
    headers.remove(EXPECT);
    match &inbound.host {
        Some(host) => drop(headers.insert(HOST, host.clone())),
        // HTTP/1.0 needs none, and what we speak to the application does.
        None => {
            if let Ok(host) = HeaderValue::try_from(application.to_string()) {
                headers.insert(HOST, host);
            }
        }
    }
    tell_the_way(&mut headers, asked, inbound);
    let mut options = [None, None];
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        options[0] = Some("te");
    }
    if let Some(protocol) = upgrade {
        headers.insert(UPGRADE, protocol.clone());
        options[1] = Some("upgrade");
    }
    match options {
        [None, None] => {}
        [Some(one), None] | [None, Some(one)] => {
            headers.insert(CONNECTION, HeaderValue::from_static(one));
        }
        [Some(_), Some(_)] => {
            headers.insert(CONNECTION, HeaderValue::from_static("te, upgrade"));
        }
    }
    apply(edits, &mut headers);
    headers
}

/// Makes an application's fields into those for the client.
pub fn for_client(headers: &mut HeaderMap, switching: bool, edits: &HeaderEdits) {
    let upgrade = headers.get(UPGRADE).filter(|_| switching).cloned();
    let length_is_void = headers.contains_key(TRANSFER_ENCODING);
    remove_hop_by_hop(headers);
    if length_is_void {
        // It does not count beside Transfer-Encoding (RFC 9112 §6.3), and would once that is gone.
        headers.remove(CONTENT_LENGTH);
    }
    if let Some(upgrade) = upgrade {
        headers.insert(UPGRADE, upgrade);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    apply(edits, headers);
}

/// Carries out a script's edits but for the fields that frame a message: a wrong one would let
/// a part of one message be read as the next.
pub fn apply(edits: &HeaderEdits, headers: &mut HeaderMap) {
    for (name, value) in &edits.edits {
        if frames_messages(name) {
            continue;
        }
        match value {
            Some(value) => drop(headers.insert(name.clone(), value.clone())),
            None => drop(headers.remove(name)),
        }
    }
}

fn frames_messages(name: &HeaderName) -> bool {
    *name == CONTENT_LENGTH || *name == CONNECTION || HOP_BY_HOP.contains(name)
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = connection_options(headers)
            // Most connections say only this, and none of it names a field.
            .filter(|option| {
                !option.eq_ignore_ascii_case("keep-alive") && !option.eq_ignore_ascii_case("close")
            })
            .filter_map(|option| HeaderName::from_bytes(option.as_bytes()).ok())
            // A message without these would be another message.
            .filter(|name| *name != HOST && *name != CONTENT_LENGTH)
            .filter(|name| *name != TRANSFER_ENCODING)
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|option| !option.is_empty())
}

fn takes_trailers(headers: &HeaderMap) -> bool {
    headers
        .get_all(TE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// Sets X-Forwarded-For, -Proto and -Host: from an untrusted peer only what we see ourselves,
/// from a trusted one what it says with the peer added to it.
fn tell_the_way(headers: &mut HeaderMap, asked: &HeaderMap, inbound: &Inbound) {
    let peer = inbound.peer;
    let mut chain = String::new();
    if peer.trusted {
        for line in asked.get_all(X_FORWARDED_FOR) {
            if let Ok(line) = line.to_str() {
                chain.push_str(line.trim());
                chain.push_str(", ");
            }
        }
    }
    chain.push_str(&peer.address.to_string());
    if let Ok(chain) = HeaderValue::try_from(chain) {
        headers.insert(X_FORWARDED_FOR, chain);
    }
    let told = |name: &HeaderName| asked.get(name).filter(|_| peer.trusted).cloned();
    let scheme = told(&X_FORWARDED_PROTO).unwrap_or(HeaderValue::from_static(inbound.scheme));
    headers.insert(X_FORWARDED_PROTO, scheme);
    match told(&X_FORWARDED_HOST).or_else(|| inbound.host.clone()) {
        Some(host) => drop(headers.insert(X_FORWARDED_HOST, host)),
        None => drop(headers.remove(X_FORWARDED_HOST)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::facts::Peer;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        headers
    }

    fn inbound(trusted: bool) -> Inbound {
        let peer = Peer {
            address: "9.9.9.9".parse().unwrap(),
            trusted,
        };
        Inbound {
            peer,
            client: peer.address,
            scheme: "http",
            host: Some(HeaderValue::from_static("shop.example:8000")),
            at: 0,
        }
    }

    fn forwarded(fields: &[(&'static str, &'static str)], trusted: bool) -> HeaderMap {
        let asked = map(fields);
        let upgrade = upgrade_asked(&asked);
        for_application(
            &asked,
            &inbound(trusted),
            "127.0.0.1:80".parse().unwrap(),
            upgrade.as_ref(),
            &HeaderEdits::default(),
        )
    }

    #[test]
    fn fields_of_one_connection_stay_on_it_and_the_rest_passes() {
        let headers = forwarded(
            &[
                ("host", "shop.example:8000"),
                ("connection", "close, x-private"),
                ("connection", "Keep-Alive"),
                ("keep-alive", "timeout=5"),
                ("x-private", "1"),
                ("proxy-authorization", "secret"),
                ("proxy-connection", "keep-alive"),
                ("te", "gzip"),
                ("transfer-encoding", "chunked"),
                ("upgrade", "websocket"),
                ("expect", "100-continue"),
                ("trailer", "x-sum"),
                ("cookie", "a=1"),
                ("accept", "x"),
                ("accept", "y"),
            ],
            false,
        );
        let expected = map(&[
            ("host", "shop.example:8000"),
            ("trailer", "x-sum"),
            ("cookie", "a=1"),
            ("accept", "x"),
            ("accept", "y"),
            ("x-forwarded-for", "9.9.9.9"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "shop.example:8000"),
        ]);
        assert_eq!(headers, expected);
    }

    #[test]
    fn connection_cannot_name_away_what_makes_the_message() {
        let headers = forwarded(
            &[
                ("connection", "host, content-length, x-forwarded-for"),
                ("content-length", "3"),
            ],
            false,
        );
        assert_eq!(headers[CONTENT_LENGTH], "3");
        assert_eq!(headers[HOST], "shop.example:8000");
        assert_eq!(headers[X_FORWARDED_FOR], "9.9.9.9");
    }

    #[test]
    fn trailers_are_asked_for_when_the_client_takes_them() {
        let headers = forwarded(&[("te", "gzip;q=0.5, Trailers")], false);
        assert_eq!(
            (&headers[TE], &headers[CONNECTION]),
            (
                &HeaderValue::from_static("trailers"),
                &HeaderValue::from_static("te")
            )
        );
    }

    #[test]
    fn an_upgrade_passes_when_connection_says_so_and_is_not_to_cleartext_http2() {
        let asks = |protocol| forwarded(&[("connection", "Upgrade"), ("upgrade", protocol)], false);
        let headers = asks("websocket");
        assert_eq!(
            (&headers[UPGRADE], &headers[CONNECTION]),
            (
                &HeaderValue::from_static("websocket"),
                &HeaderValue::from_static("upgrade")
            )
        );
        for refused in [
            asks("h2c"),
            asks("websocket, H2C"),
            forwarded(&[("upgrade", "websocket")], false),
        ] {
            assert!(!refused.contains_key(UPGRADE) && !refused.contains_key(CONNECTION));
        }
    }

    #[test]
    fn what_an_untrusted_peer_says_of_the_way_is_replaced() {
        let headers = forwarded(
            &[
                ("x-forwarded-for", "1.2.3.4"),
                ("x-forwarded-for", "5.6.7.8"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "evil.example"),
            ],
            false,
        );
        let way: Vec<_> = headers.get_all(X_FORWARDED_FOR).iter().collect();
        assert_eq!(way, ["9.9.9.9"]);
        assert_eq!(headers[X_FORWARDED_PROTO], "http");
        assert_eq!(headers[X_FORWARDED_HOST], "shop.example:8000");
    }

    #[test]
    fn what_a_trusted_peer_says_of_the_way_is_kept_and_the_peer_added() {
        let headers = forwarded(
            &[
                ("x-forwarded-for", "1.2.3.4"),
                ("x-forwarded-for", "5.6.7.8, 10.0.0.1"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "www.example"),
            ],
            true,
        );
        assert_eq!(
            headers[X_FORWARDED_FOR],
            "1.2.3.4, 5.6.7.8, 10.0.0.1, 9.9.9.9"
        );
        assert_eq!(headers[X_FORWARDED_PROTO], "https");
        assert_eq!(headers[X_FORWARDED_HOST], "www.example");
    }

    #[test]
    fn an_answers_length_is_dropped_where_its_transfer_encoding_overrules_it() {
        let mut headers = map(&[("content-length", "3"), ("transfer-encoding", "chunked")]);
        for_client(&mut headers, false, &HeaderEdits::default());
        assert_eq!(headers, HeaderMap::new());
    }

    #[test]
    fn edits_set_and_drop_fields_but_cannot_touch_the_framing() {
        let mut headers = map(&[
            ("content-length", "3"),
            ("x-old", "1"),
            ("set-cookie", "a"),
            ("set-cookie", "b"),
        ]);
        let edits = HeaderEdits {
            edits: vec![
                (CONTENT_LENGTH, Some(HeaderValue::from_static("9"))),
                (TRANSFER_ENCODING, Some(HeaderValue::from_static("chunked"))),
                (HeaderName::from_static("x-old"), None),
                (
                    HeaderName::from_static("x-new"),
                    Some(HeaderValue::from_static("2")),
                ),
            ],
        };
        for_client(&mut headers, false, &edits);
        assert_eq!(
            headers,
            map(&[
                ("content-length", "3"),
                ("set-cookie", "a"),
                ("set-cookie", "b"),
                ("x-new", "2")
            ])
        );
    }
}
