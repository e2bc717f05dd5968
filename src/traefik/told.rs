//! What an answer of Traefik's API, or of its metrics, means.

use serde::Deserialize;

use super::api::PROVIDER;

/// What Traefik does with one router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Router {
    /// It routes, to the service of this name (`shop@docker`).
    InUse { service: String },
    /// It has not heard of it, or no longer.
    Missing,
    /// It knows it and does not use it, with its own words why.
    Refused(String),
}

/// The answer to `GET /api/http/routers/NAME@docker`.
///
/// An error says what is wrong with whoever answered, for people: it is no Traefik, or it fails.
pub fn router(status: u16, body: &[u8]) -> Result<Router, String> {
    #[derive(Deserialize)]
    struct Told {
        status: String,
        #[serde(default)]
        service: String,
        #[serde(default)]
        provider: String,
        #[serde(default)]
        error: Vec<String>,
    }
    match status {
        200 => {}
        404 => {
            // Whatever else listens there answers 404 as well, but not in these words.
            let text = String::from_utf8_lossy(body);
            return if text.contains("router not found") {
                Ok(Router::Missing)
            } else {
                Err("it answered 404 to a question for a router: is this Traefik's API?".to_owned())
            };
        }
        status => return Err(format!("it answered {status}")),
    }
    let told: Told = serde_json::from_slice(body)
        .map_err(|_| "its answer is no description of a router: is this Traefik's API?")?;
    match told.status.as_str() {
        // A warning is about a part of it, such as one entry point of several that does not exist.
        "enabled" | "warning" => Ok(Router::InUse {
            service: qualified(told.service, told.provider),
        }),
        _ if told.error.is_empty() => Ok(Router::Refused(told.status)),
        _ => Ok(Router::Refused(told.error.join("; "))),
    }
}

/// A service of the router's own provider is told without the provider's name.
fn qualified(service: String, provider: String) -> String {
    if service.contains('@') || service.is_empty() {
        return service;
    }
    let provider = if provider.is_empty() {
        PROVIDER
    } else {
        &provider
    };
    format!("{service}@{provider}")
}

/// The series that counts a service's requests as they end, by status, method and protocol.
const REQUESTS: &str = "traefik_service_requests_total";

/// How many requests these services have answered, by Traefik's Prometheus metrics.
///
/// A service that was not asked since Traefik's start has no series, and counts none. Where no
/// service has one, Traefik may not count by service at all: that is an error, so that nobody takes
/// it for silence.
pub fn requests(metrics: &str, services: &[String]) -> Result<u64, String> {
    let wanted: Vec<String> = services.iter().map(|name| label("service", name)).collect();
    let mut counts_services = false;
    let mut sum = 0.0_f64;
    for line in metrics.lines() {
        let Some((labels, value)) = sample(line, REQUESTS) else {
            continue;
        };
        counts_services = true;
        if wanted.iter().any(|wanted| has_label(labels, wanted)) {
            let value = value.parse::<f64>();
            sum += value.map_err(|_| format!("its metrics have a line that is none: {line:?}"))?;
        }
    }
    if !counts_services {
        return Err(format!(
            "its metrics have no {REQUESTS}: is metrics.prometheus on, with addServicesLabels?"
        ));
    }
    if sum.is_finite() && sum >= 0.0 {
        Ok(sum as u64)
    } else {
        Err(format!("its metrics count {sum} requests"))
    }
}

/// The labels and the value of a line of that series.
fn sample<'a>(line: &'a str, series: &str) -> Option<(&'a str, &'a str)> {
    let rest = line.strip_prefix(series)?.strip_prefix('{')?;
    let (labels, rest) = rest.rsplit_once('}')?;
    Some((labels, rest.split_whitespace().next()?))
}

/// A label as it is written. A value with quotes or backslashes is escaped.
fn label(name: &str, value: &str) -> String {
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
    format!("{name}=\"{escaped}\"")
}

/// Whether `labels` has the one that is written like this, whole.
fn has_label(labels: &str, wanted: &str) -> bool {
    labels.match_indices(wanted).any(|(at, _)| {
        let begins = at == 0 || labels[..at].ends_with(',');
        let rest = &labels[at + wanted.len()..];
        begins && (rest.is_empty() || rest.starts_with(','))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_use(service: &str) -> Result<Router, String> {
        Ok(Router::InUse {
            service: service.to_owned(),
        })
    }

    /// As Traefik 3.7 writes them.
    #[test]
    fn a_router_is_in_use_missing_or_refused() {
        let enabled = br#"{"entryPoints":["web"],"service":"a","rule":"PathPrefix(`/a/`)","priority":27,"status":"enabled","using":["web"],"name":"a@docker","provider":"docker"}"#;
        assert_eq!(router(200, enabled), in_use("a@docker"));
        let warning = br#"{"service":"a@file","error":["entryPoint \"no\" doesn't exist"],"status":"warning","provider":"docker"}"#;
        assert_eq!(router(200, warning), in_use("a@file"));
        let disabled = br#"{"service":"a","error":["middleware \"m@docker\" does not exist","x"],"status":"disabled","provider":"docker"}"#;
        assert_eq!(
            router(200, disabled),
            Ok(Router::Refused(
                "middleware \"m@docker\" does not exist; x".to_owned()
            ))
        );
        let missing = br#"{"message":"router not found: a@docker"}"#;
        assert_eq!(router(404, missing), Ok(Router::Missing));
    }

    #[test]
    fn what_is_no_traefik_is_an_error_and_not_a_missing_router() {
        for (status, body, word) in [
            (404, &b"404 page not found\n"[..], "is this Traefik's API?"),
            (200, b"<html>", "is this Traefik's API?"),
            (200, b"{}", "is this Traefik's API?"),
            (200, b"", "is this Traefik's API?"),
            (500, b"", "it answered 500"),
            (401, b"", "it answered 401"),
            (307, b"", "it answered 307"),
        ] {
            let error = router(status, body).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    const METRICS: &str = r#"
# HELP traefik_service_requests_total How many HTTP requests processed on a service
# TYPE traefik_service_requests_total counter
traefik_service_requests_total{code="200",method="GET",protocol="http",service="a@docker"} 12
traefik_service_requests_total{code="502",method="GET",protocol="http",service="a@docker"} 1
traefik_service_requests_total{code="200",method="GET",protocol="http",service="aa@docker"} 1e+06
traefik_service_requests_total{service="b\"x@docker"} 3 1700000000
traefik_service_requests_bytes_total{code="200",service="a@docker"} 999
traefik_router_requests_total{router="a@docker",service="a@docker"} 99
"#;

    #[test]
    fn requests_are_counted_over_all_series_of_the_services() {
        let count = |services: &[&str]| {
            let services: Vec<String> = services.iter().map(|name| (*name).to_owned()).collect();
            requests(METRICS, &services)
        };
        assert_eq!(count(&["a@docker"]), Ok(13));
        assert_eq!(count(&["aa@docker"]), Ok(1_000_000));
        assert_eq!(count(&["b\"x@docker"]), Ok(3));
        assert_eq!(count(&["a@docker", "b\"x@docker"]), Ok(16));
        assert_eq!(count(&["never-asked@docker"]), Ok(0));
        assert_eq!(count(&[]), Ok(0));
    }

    #[test]
    fn metrics_without_services_are_an_error_and_not_silence() {
        let services = ["a@docker".to_owned()];
        let others: String = METRICS.lines().filter(|l| l.contains("router")).collect();
        for text in ["", "<html>", "traefik_config_reloads_total 5\n", &others] {
            assert!(requests(text, &services).is_err(), "{text}");
        }
        let odd = format!("{METRICS}traefik_service_requests_total{{service=\"a@docker\"}} NaN\n");
        assert!(requests(&odd, &services).is_err());
        let odd = format!("{METRICS}traefik_service_requests_total{{service=\"a@docker\"}} x\n");
        assert!(requests(&odd, &services).is_err());
    }

    #[test]
    fn a_label_is_the_whole_label() {
        let wanted = label("service", "a");
        assert!(has_label(r#"service="a""#, &wanted));
        assert!(has_label(r#"x="1",service="a",y="2""#, &wanted));
        for not in [
            r#"other_service="a""#,
            r#"service="ab""#,
            r#"x="service=\"a\"""#,
            "",
        ] {
            assert!(!has_label(not, &wanted), "{not}");
        }
    }
}
