//! The status page's files: who gets them, what a browser is told to do with them, what is in them.

use std::collections::BTreeSet;

use super::*;

const FILES: [(&str, &str); 14] = [
    ("/", "text/html; charset=utf-8"),
    ("/page/status.css", "text/css; charset=utf-8"),
    ("/page/icon.svg", "image/svg+xml"),
    ("/page/status.js", "text/javascript; charset=utf-8"),
    ("/page/actions.js", "text/javascript; charset=utf-8"),
    ("/page/api.js", "text/javascript; charset=utf-8"),
    ("/page/applications.js", "text/javascript; charset=utf-8"),
    ("/page/dom.js", "text/javascript; charset=utf-8"),
    ("/page/format.js", "text/javascript; charset=utf-8"),
    ("/page/more.js", "text/javascript; charset=utf-8"),
    ("/page/releases.js", "text/javascript; charset=utf-8"),
    ("/page/scripts.js", "text/javascript; charset=utf-8"),
    ("/page/traffic.js", "text/javascript; charset=utf-8"),
    ("/page/workloads.js", "text/javascript; charset=utf-8"),
];

#[tokio::test]
async fn every_file_is_given_with_what_keeps_it_to_itself() {
    let house = house().await;
    for (path, content_type) in FILES {
        let answer = house.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), content_type, "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "same-origin", "{path}");
        assert_eq!(answer.header("cache-control"), "no-cache", "{path}");
        assert_eq!(
            answer.header("cross-origin-resource-policy"),
            "same-origin",
            "{path}"
        );
        let policy = answer.header("content-security-policy");
        for directive in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ] {
            let found = policy.split(';').any(|part| part.trim() == directive);
            assert!(found, "{path}: {directive} in {policy:?}");
        }
        let head = house.ask("HEAD", path, &[], "").await;
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        assert_eq!(
            head.header("content-length"),
            answer.body.len().to_string(),
            "{path}"
        );
    }
}

#[tokio::test]
async fn the_page_needs_no_token_and_what_it_shows_does() {
    let house = house_with(&with_token("correct horse")).await;
    for (path, _) in FILES {
        assert_eq!(house.get(path).await.status, 200, "{path}");
    }
    for path in ["/deploy", "/scripts", "/page", "/page/", "/page/nope.js"] {
        house.get(path).await.problem(401, "unauthorized");
    }
}

#[tokio::test]
async fn the_page_is_only_given_under_the_listeners_own_names() {
    let house = house().await;
    let port = house.tcp().port();
    for (path, _) in FILES {
        let foreign = format!("Host: rebound.example:{port}");
        let answer = house.raw(&request("GET", path, &[&foreign], "")).await;
        answer.problem(421, "unknown_host");
    }
}

#[tokio::test]
async fn other_sites_may_link_to_the_page_and_not_load_it() {
    let house = house().await;
    let link = ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"];
    assert_eq!(house.ask("GET", "/", &link, "").await.status, 200);
    for foreign in ["Sec-Fetch-Site: cross-site", "Origin: http://evil.example"] {
        for (path, _) in FILES {
            let answer = house.ask("GET", path, &[foreign], "").await;
            answer.problem(403, "cross_site");
        }
    }
}

#[tokio::test]
async fn the_page_takes_nothing() {
    let house = house().await;
    for method in ["POST", "PUT", "DELETE"] {
        let answer = house.ask(method, "/", &[], "").await;
        answer.problem(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), "GET,HEAD");
    }
}

#[tokio::test]
async fn whatever_a_file_asks_for_is_one_of_them() {
    let house = house().await;
    let there: BTreeSet<&str> = FILES.iter().map(|(path, _)| *path).collect();
    let mut asked: BTreeSet<String> = BTreeSet::from(["/".to_owned()]);
    for (path, _) in FILES {
        let text = house.get(path).await.body;
        let within = |begin: &'static str, end: char, base: &'static str| {
            let parts: Vec<String> = text
                .split(begin)
                .skip(1)
                .map(|rest| format!("{base}{}", rest.split(end).next().unwrap_or_default()))
                .collect();
            parts
        };
        if path == "/" {
            asked.extend(within("src=\"", '"', "/"));
            asked.extend(within("rel=\"stylesheet\" href=\"", '"', "/"));
        } else {
            asked.extend(within("from \"./", '"', "/page/"));
        }
    }
    let asked: BTreeSet<&str> = asked.iter().map(String::as_str).collect();
    assert_eq!(asked, there);
}

#[tokio::test]
async fn no_file_reads_text_as_markup_or_asks_anybody_else() {
    let house = house().await;
    for (path, _) in FILES {
        let text = house.get(path).await.body;
        for never in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "parseFromString",
            "createContextualFragment",
            "style=\"",
            "onclick=\"",
            "https://",
            "//cdn",
        ] {
            assert!(!text.contains(never), "{path} has {never:?}");
        }
        let names = text.matches("http://").count();
        let namespaces = text.matches("http://www.w3.org/2000/svg").count();
        assert_eq!(names, namespaces, "{path} names another machine");
    }
}
