//! What Traefik's Docker provider reads in a container's labels: its HTTP routers, and its port.

use std::collections::{BTreeMap, BTreeSet};

/// Routers of one container that are asked about. One that has more is known by the first ones.
const ROUTERS_MAX: usize = 8;

/// The names of the container's routers, without `@docker`; none where Traefik leaves it alone.
///
/// A container without any label of Traefik's counts as left alone, although a Traefik with
/// `exposedByDefault` makes a router of its name: to tell it from one that Traefik does not know would take
/// a wait for a route, and at a removal for silence, of everything without labels. docs/TRAEFIK.md says so.
pub fn routers(container: &str, labels: &BTreeMap<String, String>) -> Vec<String> {
    let enabled = value(labels, "traefik.enable").map(is_true);
    if enabled == Some(false) {
        return Vec::new();
    }
    let named: BTreeSet<&str> = names(labels, "traefik.http.routers.").collect();
    if !named.is_empty() {
        return named
            .into_iter()
            .take(ROUTERS_MAX)
            .map(str::to_owned)
            .collect();
    }
    let has = |prefix: &str| labels.keys().any(|key| after(key, prefix).is_some());
    let only_other_protocols =
        !has("traefik.http.") && (has("traefik.tcp.") || has("traefik.udp."));
    let several_services = {
        let services: BTreeSet<&str> = names(labels, "traefik.http.services.").collect();
        services.len() > 1
    };
    let is_meant = enabled == Some(true) || has("traefik.http.");
    if !is_meant || only_other_protocols || several_services {
        return Vec::new();
    }
    vec![default_name(container, labels)]
}

/// The port at which Traefik is told to reach the container, where all of its services say the same.
/// Without such a label, or with an empty one, Traefik takes the lowest exposed port, as the gateway does.
pub fn port(labels: &BTreeMap<String, String>) -> Option<u16> {
    let mut told = labels.iter().filter_map(|(key, value)| {
        let (name, setting) = after(key, "traefik.http.services.")?.split_once('.')?;
        let is_port = setting.eq_ignore_ascii_case("loadbalancer.server.port");
        (!name.is_empty() && is_port).then(|| value.parse().ok().filter(|port| *port != 0))
    });
    let port: u16 = told.next()??;
    told.all(|other| other == Some(port)).then_some(port)
}

/// What Traefik calls the router of a container that names none: after its service of the Compose
/// project, else after itself, with a hyphen for everything that is no letter and no digit.
fn default_name(container: &str, labels: &BTreeMap<String, String>) -> String {
    let compose = (
        labels.get("com.docker.compose.service"),
        labels.get("com.docker.compose.project"),
    );
    let name = match compose {
        (Some(service), Some(project)) => format!("{service}_{project}"),
        _ => container.to_owned(),
    };
    let words = name.split(|c: char| !c.is_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join("-")
}

/// The second parts of keys such as `traefik.http.routers.NAME.rule`.
fn names<'a>(
    labels: &'a BTreeMap<String, String>,
    prefix: &'a str,
) -> impl Iterator<Item = &'a str> {
    labels.keys().filter_map(move |key| {
        let (name, _) = after(key, prefix)?.split_once('.')?;
        (!name.is_empty()).then_some(name)
    })
}

/// Traefik reads the names of its own labels in any case, but for the first part.
fn after<'a>(key: &'a str, prefix: &str) -> Option<&'a str> {
    if !key.starts_with("traefik.") {
        return None;
    }
    let head = key.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix)
        .then(|| &key[prefix.len()..])
}

fn value<'a>(labels: &'a BTreeMap<String, String>, wanted: &str) -> Option<&'a str> {
    let mut found = labels
        .iter()
        .filter(|(key, _)| after(key, wanted) == Some(""));
    found.next().map(|(_, value)| value.as_str())
}

/// What Go reads as true; Traefik leaves a container alone whose label is neither true nor false.
fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(labels: &[(&str, &str)]) -> Vec<String> {
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        routers("/web_1", &labels)
    }

    fn port_of(labels: &[(&str, &str)]) -> Option<u16> {
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        port(&labels)
    }

    #[test]
    fn the_port_is_the_one_that_all_services_agree_on() {
        let a = "traefik.http.services.a.loadbalancer.server.port";
        let b = "traefik.HTTP.Services.b.loadBalancer.Server.Port";
        assert_eq!(port_of(&[(a, "9000")]), Some(9000));
        assert_eq!(port_of(&[(b, "9000")]), Some(9000), "in any case");
        assert_eq!(port_of(&[(a, "9000"), (b, "9000")]), Some(9000));
        assert_eq!(port_of(&[(a, "9000"), (b, "9001")]), None);
        assert_eq!(port_of(&[(a, "9000"), (b, "")]), None);
        for odd in ["", "0", "65536", "http", "-1", " 80"] {
            assert_eq!(port_of(&[(a, odd)]), None, "{odd:?}");
        }
    }

    #[test]
    fn other_labels_tell_no_port() {
        assert_eq!(port_of(&[]), None);
        for key in [
            "traefik.http.services.a.loadbalancer.server.scheme",
            "traefik.http.services.a.loadbalancer.healthcheck.port",
            "traefik.http.services..loadbalancer.server.port",
            "traefik.tcp.services.a.loadbalancer.server.port",
            "traefik.http.services.loadbalancer.server.port",
            "Traefik.http.services.a.loadbalancer.server.port",
        ] {
            assert_eq!(port_of(&[(key, "9000")]), None, "{key}");
        }
    }

    #[test]
    fn routers_are_called_as_the_labels_call_them() {
        let rule = ("traefik.http.routers.shop.rule", "PathPrefix(`/shop`)");
        assert_eq!(of(&[rule]), ["shop"]);
        assert_eq!(of(&[("traefik.enable", "true"), rule]), ["shop"]);
        assert_eq!(
            of(&[
                rule,
                ("traefik.http.routers.shop.priority", "7"),
                ("traefik.HTTP.Routers.Admin.rule", "Host(`a`)"),
            ]),
            ["Admin", "shop"]
        );
    }

    #[test]
    fn a_container_that_is_not_enabled_has_none() {
        let rule = ("traefik.http.routers.shop.rule", "PathPrefix(`/shop`)");
        for not in ["false", "0", "FALSE", "no", ""] {
            assert!(of(&[rule, ("traefik.enable", not)]).is_empty(), "{not:?}");
        }
        for yes in ["true", "1", "T"] {
            assert_eq!(of(&[rule, ("Traefik.Enable", yes)]), ["shop"], "{yes:?}");
        }
    }

    #[test]
    fn without_labels_of_traefik_there_is_none() {
        assert!(of(&[]).is_empty());
        assert!(of(&[("caddy", "shop.example"), ("traefiknet", "x")]).is_empty());
        assert!(of(&[("traefik.docker.network", "lan")]).is_empty());
    }

    #[test]
    fn an_unnamed_router_is_called_after_the_service_or_the_container() {
        assert_eq!(of(&[("traefik.enable", "true")]), ["web-1"]);
        let port = ("traefik.http.services.x.loadbalancer.server.port", "80");
        assert_eq!(of(&[port]), ["web-1"]);
        assert_eq!(
            of(&[
                ("traefik.enable", "true"),
                ("com.docker.compose.service", "front.end"),
                ("com.docker.compose.project", "my_shop"),
            ]),
            ["front-end-my-shop"]
        );
        let second = ("traefik.http.services.y.loadbalancer.server.port", "81");
        assert!(of(&[port, second]).is_empty(), "Traefik makes none then");
    }

    #[test]
    fn other_protocols_make_no_http_router() {
        let tcp = ("traefik.tcp.routers.db.rule", "HostSNI(`*`)");
        assert!(of(&[("traefik.enable", "true"), tcp]).is_empty());
        let rule = ("traefik.http.routers.shop.rule", "PathPrefix(`/shop`)");
        assert_eq!(of(&[tcp, rule]), ["shop"]);
    }

    #[test]
    fn odd_labels_are_no_routers_and_many_are_cut() {
        assert!(of(&[("traefik.http.routers..rule", "x")]) == ["web-1"]);
        assert!(of(&[("traefik.http.routers.a", "x")]) == ["web-1"]);
        let many: Vec<String> = (0..50)
            .map(|n| format!("traefik.http.routers.r{n:02}.rule"))
            .collect();
        let many: Vec<(&str, &str)> = many.iter().map(|key| (key.as_str(), "x")).collect();
        assert_eq!(of(&many).len(), ROUTERS_MAX);
        assert!(of(&[("träfik.http.routers.é.rule", "x")]).is_empty());
    }
}
